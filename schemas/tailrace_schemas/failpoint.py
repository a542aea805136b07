"""Named points at which a test can hurt a process: `TAILRACE_FAILPOINT=name:nth[:action]`, several with commas.

Actions: `kill` (SIGKILL, the default), `error` (raises FailpointError), `delay` (one second). The only module that
reads the environment besides the command line. Unset, a point costs one call and one comparison.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


class FailpointError(Exception):
    """Raised by the action `error`."""


def _parse(text: str) -> dict[str, tuple[int, str]]:
    out = {}
    for part in text.split(","):
        if part:
            name, nth, *rest = part.split(":")
            out[name] = (int(nth), rest[0] if rest else "kill")
    return out


_points = _parse(os.environ.get("TAILRACE_FAILPOINT", ""))
_folder = os.environ.get("TAILRACE_FAILPOINT_DIR", "")
_met: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Act when this is the nth meeting of the point in this process, once per TAILRACE_FAILPOINT_DIR."""
    if not _points or name not in _points:
        return
    nth, action = _points[name]
    _met[name] = _met.get(name, 0) + 1
    if _met[name] != nth:
        return
    if _folder:
        mark = Path(_folder) / name
        if mark.exists():
            return
        mark.write_text(str(os.getpid()))
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "error":
        raise FailpointError(name)
    time.sleep(1)
