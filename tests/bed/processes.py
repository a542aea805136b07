"""Server processes by their pid file: find, freeze, kill, wait.

A pid file holds "pid start_ticks", written by `spawn` in lib.sh, whose small shell removes it once the process was
reaped. Pid and start together name one process: a pid used again by a stranger is never signalled.
Source of the fields: proc_pid_stat(5).
"""

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Process:
    """One process for good: `start_ticks` is its start in clock ticks since boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    start_ticks: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself hold blanks and brackets.
    fields = text.rpartition(") ")[2].split()
    return _Stat(fields[0], int(fields[1]), int(fields[19]))


def this_process() -> Process:
    """The process that calls."""
    stat = _stat(os.getpid())
    assert stat is not None
    return Process(os.getpid(), stat.start_ticks)


def from_pid_file(pid_file: Path) -> Process | None:
    """The process a pid file names, running or not; None without the file."""
    try:
        pid, start_ticks = pid_file.read_text().split()
    except FileNotFoundError:
        return None
    return Process(int(pid), int(start_ticks))


def is_running(process: Process) -> bool:
    """Whether it runs or is frozen; a zombie does not run."""
    stat = _stat(process.pid)
    return stat is not None and stat.start_ticks == process.start_ticks and stat.state != "Z"


def family(process: Process) -> list[Process]:
    """The process and all that descend from it, parents first."""
    stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [process]
    for parent in found:
        found += [Process(pid, stat.start_ticks) for pid, stat in stats.items() if stat and stat.parent == parent.pid]
    return found


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal, unless the process is gone."""
    if is_running(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def freeze(process: Process) -> list[Process]:
    """Stop it and its descendants as they stand: connections stay open and nothing answers."""
    send(process, signal.SIGSTOP)  # first, so that it starts no further child
    members = family(process)
    for member in members:
        send(member, signal.SIGSTOP)
    return members


def thaw(process: Process) -> None:
    """Undo `freeze`."""
    for member in reversed(family(process)):
        send(member, signal.SIGCONT)


def kill(process: Process, pid_file: Path) -> None:
    """SIGKILL it and its descendants at one moment and return when all are gone and reaped."""
    members = freeze(process)
    for member in members:
        send(member, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, members)), 20, f"the processes {members} end after SIGKILL")
    wait_until(lambda: from_pid_file(pid_file) != process, 20, f"{pid_file} goes")


def wait_until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Return the first true value of `condition`, asked every few milliseconds.

    Raises:
        AssertionError: it was not true within `seconds`; the message says `what` and the last value.
    """
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} (last value: {value!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return value


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on and that this process was not given before.

    They lie below the range from which the kernel takes the ports of outgoing connections (from 32768), so that a
    server that was killed finds its port free again. Not from the seed of the run: two runs may have the same.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(12000, 32000)
        if port not in _given and _is_free(port):
            _given.add(port)
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
