"""How a process ends: the first signal drains, the second ends at once, a closed pipe ends a child within seconds."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

CHILD = """
import time
from tailrace.lifeline import Lifeline
life = Lifeline()
life.watch_signals()
life.watch_supervisor()
print("ready", flush=True)
{work}
"""
DRAIN = "life.stop.wait(); print('until', life.until_seq, 'orphaned', life.orphaned, flush=True)"
HANG = "time.sleep(600)"


@contextmanager
def child(work: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(work=work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_signal_drains() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with child(DRAIN) as process:
            process.send_signal(number)
            assert said(process) == "until None orphaned False"
            assert process.wait(10) == 0


def test_a_second_signal_ends_at_once() -> None:
    with child(f"life.stop.wait(); print('draining', flush=True); {HANG}") as process:
        process.send_signal(signal.SIGINT)
        assert said(process) == "draining"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_words_of_the_supervisor_are_heard() -> None:
    with child(DRAIN) as process:
        assert process.stdin is not None
        process.stdin.write("until 12\nstop\n")
        process.stdin.flush()
        assert said(process) == "until 12 orphaned False"
        assert process.wait(10) == 0


def test_a_child_ends_within_seconds_when_its_supervisor_is_gone_even_if_it_hangs() -> None:
    with child(HANG) as process:
        assert process.stdin is not None
        began = time.monotonic()
        process.stdin.close()
        assert process.wait(15) == 0
        assert time.monotonic() - began < 10


def test_an_orphan_that_does_not_hang_ends_at_once() -> None:
    with child(f"life.stop.wait(); time.sleep(0.2); {DRAIN}") as process:
        assert process.stdin is not None
        process.stdin.close()
        assert said(process) == "until None orphaned True"
        assert process.wait(3) == 0
