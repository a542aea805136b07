"""The real `tailrace` command over one pipeline: started, killed in parts, ended in order, run until it is current."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from bed import processes
from bed.processes import Process, wait_until

COMMAND = [sys.executable, "-P", "-m", "tailrace"]
ENDS_WITHIN = 40.0


def environment() -> dict[str, str]:
    """The test's own environment with the packages it runs itself, by full path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)}


@dataclass(slots=True)
class Command:
    """One pipeline file, its state folder, and the environment variables its passwords stand in; at most one supervisor
    at a time. What it says goes to `log`."""

    folder: Path
    pipeline: dict[str, Any]
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    kills: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "tailrace.log"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start(self, *flags: str) -> None:
        """`tailrace run PIPELINE.yaml`; it goes on by itself."""
        assert self.process is None
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "pipeline.yaml"
        file.write_text(json.dumps(self.pipeline))  # JSON is YAML
        self.process = self._spawn("run", str(file), "--state", str(self.state), "--log-level", "info", *flags)
        self.starts += 1

    def drop(self) -> None:
        """Remove what the pipeline left at the source, and its state."""
        process = self._spawn("drop", "--state", str(self.state), "--yes")
        assert process.wait(60) == 0, self.said()

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment() | self.variables,
                start_new_session=True,
            )

    def stop(self) -> None:
        """SIGTERM, once it has begun to work: it must drain and end with 0."""
        process = self.process
        assert process is not None
        wait_until(lambda: process.poll() is not None or self.status("run").get("pid") == process.pid, 60, "it works")
        process.send_signal(signal.SIGTERM)
        assert self._ended(ENDS_WITHIN) == 0, self.said()

    def finish(self, seconds: float) -> None:
        """Run it until it is current: it must end with 0."""
        self.start("--until-current")
        self.end(seconds)

    def end(self, seconds: float) -> None:
        """Wait until it has ended by itself, with 0."""
        assert self._ended(seconds) == 0, self.said()

    def _ended(self, seconds: float) -> int:
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"tailrace has not ended within {seconds:g} s\n{self.said()}") from None
        finally:
            if self.process.poll() is not None:
                self.process = None

    def check(self) -> None:
        """It must still be there, unless it was killed."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"tailrace ended with {self.process.returncode}\n{self.said()}")

    def said(self) -> str:
        """The end of its log. There must never be a traceback in it."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def close(self) -> None:
        """End what runs, without asking."""
        if self.process is not None and self.process.poll() is None:
            for member in processes.freeze(_process(self.process)):
                processes.send(member, signal.SIGKILL)
            self.process.wait()
        self.process = None

    # ---- what it is doing

    def status(self, role: str) -> dict[str, Any]:
        """The status file of a process; empty when there is none."""
        try:
            data = json.loads((self.state / "status" / f"{role}.json").read_text())
        except (OSError, ValueError):
            return {}
        assert isinstance(data, dict)
        return data

    def is_loaded(self) -> bool:
        """Every table's load is in the log."""
        self.check()
        tables = self.status("capture").get("tables", [])
        return bool(tables) and all(table["state"] == "streaming" for table in tables)

    # ---- kills

    def child(self, role: str) -> Process | None:
        """The running child of the supervisor whose command line says so: `capture` or `sink`."""
        if self.process is None:
            return None
        for member in processes.family(_process(self.process))[1:]:
            if role in _words(member) and processes.is_running(member):
                return member
        return None

    def _alive(self, role: str) -> Process | None:
        self.check()
        return self.child(role)

    def kill(self, role: str) -> None:
        """SIGKILL a child, or the supervisor, and see it gone. A killed supervisor is started again."""
        self.check()
        if role == "run":
            self._kill_supervisor()
            return
        victim = wait_until(lambda: self._alive(role), 60, f"{role} runs, to be killed\n{self.said()}")
        assert victim is not None
        processes.send(victim, signal.SIGKILL)
        wait_until(lambda: not processes.is_running(victim), 20, f"{role} ({victim.pid}) is gone")
        self.kills.append(role)

    def _kill_supervisor(self) -> None:
        assert self.process is not None
        victim = _process(self.process)
        self.process.kill()
        assert self.process.wait(20) == -signal.SIGKILL
        assert not processes.is_running(victim)
        self.process = None
        self.kills.append("run")
        self.start()


def _process(popen: subprocess.Popen[bytes]) -> Process:
    return next(one for one in processes.family(processes.this_process()) if one.pid == popen.pid)


def _words(process: Process) -> list[str]:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def kill_at_random(
    command: Command, draw: Random, count: int, pause: tuple[float, float], over: Callable[[], bool]
) -> int:
    """Kill up to `count` times, until `over`: capture and sink alike, one time in ten the supervisor, each after a
    random time. Returns how often."""
    # A supervisor doubles its pause with each death of a child; a new one begins anew.
    since = {"capture": 0, "sink": 0}
    for done in range(count):
        due = time.monotonic() + draw.uniform(*pause)
        while time.monotonic() < due:
            command.check()
            if over():
                return done
            time.sleep(0.02)
        role = "run" if draw.random() < 0.1 or max(since.values()) >= 3 else draw.choice(("capture", "sink"))
        command.kill(role)
        since = {"capture": 0, "sink": 0} if role == "run" else since | {role: since[role] + 1}
    return count
