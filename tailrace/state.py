"""The state folder of one pipeline: its files, its locks, and the status each process leaves in it.

    pipeline.yaml         the settings as last run, secrets as references
    log.db                the embedded log (the log package's own)
    spool/                open source transactions too large for memory (capture's own)
    lock, capture.lock, sink-<name>.lock      held by the supervisor and by each process while it lives
    status/run.json, status/capture.json, status/sink-<name>.json     written once a second, replaced whole

Locks are flock locks: they end with the process, however it ends. Who holds one stands in the file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrace_schemas.errors import ConfigError, StopError

ORPHAN_PATIENCE = 10.0  # an orphan of a killed supervisor ends within seconds; its successor waits that long
LOOK_PATIENCE = 1.0  # `is_locked` of another process holds the lock for an instant


def default_state(name: str, environment: Mapping[str, str], home: Path) -> Path:
    """`${XDG_STATE_HOME:-~/.local/state}/tailrace/<name>`; a relative XDG_STATE_HOME counts as unset (XDG base
    directory specification)."""
    base = Path(environment.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else home / ".local" / "state") / "tailrace" / name


class Lock:
    """A held lock; given up by `release` or by the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def release(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class StateFolder:
    path: Path

    @property
    def pipeline_file(self) -> Path:
        return self.path / "pipeline.yaml"

    @property
    def log_file(self) -> Path:
        return self.path / "log.db"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    def make(self) -> None:
        """
        Raises:
            ConfigError: it cannot be made or written.
        """
        try:
            (self.path / "status").mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"state folder {self.path} cannot be made",
                detail=error.strerror or "",
                hint="choose another by --state",
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise ConfigError(f"state folder {self.path} cannot be written", hint="choose another by --state")

    def require(self) -> None:
        """
        Raises:
            ConfigError: no pipeline has ever run here.
        """
        if not self.path.is_dir():
            raise ConfigError(
                f"there is no state folder {self.path}", hint="name the pipeline's own: --state or --name"
            )

    def lock(self, role: str = "", patience: float = LOOK_PATIENCE) -> Lock:
        """The lock of the whole pipeline, or of one process of it, by `role`.

        Raises:
            StopError: held by another process (code STATE_HELD, the holder named).
        """
        path = self.path / (f"{role}.lock" if role else "lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                holder = path.read_text(errors="replace").strip() or "unknown"
                os.close(descriptor)
                raise _held(self.path, role, holder)
            time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        return Lock(path, descriptor)

    def write_pipeline(self, text: str) -> None:
        _replace(self.pipeline_file, text)

    def status_file(self, role: str) -> Path:
        return self.path / "status" / f"{role}.json"

    def write_status(self, role: str, data: Mapping[str, Any]) -> None:
        """Replaced whole; a disk that is full loses a second of status, never the process."""
        with suppress(OSError):
            _replace(self.status_file(role), json.dumps(data, ensure_ascii=False))

    def read_status(self, role: str) -> dict[str, Any]:
        """The last status of a process; empty when there is none."""
        try:
            data = json.loads(self.status_file(role).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def is_locked(self, role: str = "") -> bool:
        """Whether a process of that role is alive."""
        path = self.path / (f"{role}.lock" if role else "lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(folder: Path, role: str, holder: str) -> StopError:
    what = f"the {role} of the pipeline in {folder}" if role else f"state folder {folder}"
    return StopError(
        f"{what} is held by another process",
        code="STATE_HELD",
        detail=f"holder: {holder}",
        hint="stop that process first, or give this pipeline its own --name or --state",
    )


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
