"""The `tailrace` command as a process of its own, with the packages that the tests themselves run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_VARIABLES: Mapping[str, str] = {}
TESTS = Path(__file__).parent.absolute()
COMMAND = [sys.executable, "-P", "-m", "tailrace"]


def environment(state_home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The test's own environment, the packages by full path, and a state home of the test's own.

    Without the folders of tests: those below `unit` are named like the packages and would hide them.
    """
    entries = [Path(entry).absolute() for entry in sys.path if entry]
    path = os.pathsep.join(str(entry) for entry in entries if not entry.is_relative_to(TESTS))
    return {**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(state_home), **variables}


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The one object on stdout."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"{len(lines)} lines on stdout: {self.out}"
        data = json.loads(lines[0])
        assert isinstance(data, dict)
        return data

    @property
    def text(self) -> str:
        return self.out + self.err


def tailrace(state_home: Path, *words: str, timeout: float = 60, variables: Mapping[str, str] = NO_VARIABLES) -> Ended:
    """Run it to its end. Never may it show a traceback."""
    done = subprocess.run(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(state_home, variables),
        check=False,
    )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in ended.text, ended.text
    return ended


class Started:
    """A running command; what it wrote is read at its end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, timeout: float = 60) -> Ended:
        """Wait until it has ended by itself."""
        out, err = self.process.communicate(timeout=timeout)
        ended = Ended(self.process.returncode, out, err)
        assert "Traceback" not in ended.text, ended.text
        return ended


@contextmanager
def started(state_home: Path, *words: str, variables: Mapping[str, str] = NO_VARIABLES) -> Iterator[Started]:
    """A command that runs until the test ends it; killed at the end if the test did not."""
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(state_home, variables),
        start_new_session=True,
    )
    try:
        yield Started(process)
    finally:
        if process.poll() is None:
            process.kill()
        if process.stdout is not None and not process.stdout.closed:
            # Shown by pytest when the test fails.
            print(*process.communicate(), sep="\n")
