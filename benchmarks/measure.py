"""One command as a whole process: wall seconds, processor seconds, peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu_s`: user and system time of the process and its finished children."""

    wall_s: float
    cpu_s: float
    peak_rss_mb: float


def run(*arguments: str, until: int | None = None) -> Usage:
    """Run `tailrace` to its end. `until`: the commit sequence to end at, told as a supervisor does.

    Raises:
        RuntimeError: it did not end with 0; the message holds what it printed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tailrace", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if until is not None:
        process.stdin.write(f"until {until}\n")
        process.stdin.flush()
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"tailrace {' '.join(arguments[:1])} ended with {process.returncode}:\n{said[-3000:]}")
    return Usage(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
