"""How a process is told to end: signals, and for a child the pipe from its supervisor.

The first SIGTERM or SIGINT asks to drain, a second one ends the process at once. A drain that takes too long is cut
off: what it did not finish is taken up at the next start, as after a SIGKILL. A child reads its supervisor's
words from stdin; the pipe closes when the supervisor is gone, however it went, and the child ends within seconds.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType

from tailrace.boundary import EXIT_INTERRUPTED
from tailrace_schemas.errors import EXIT_DONE

log = logging.getLogger(__name__)

DRAIN_SECONDS = 28.0  # a container's grace period is 30 s
ORPHAN_SECONDS = 5.0


class Lifeline:
    """`stop` is set when the process is to end. `until_seq`: the commit sequence a sink is to reach and then end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.until_seq: int | None = None
        self.orphaned = False
        self._signals = 0
        self._pipe = os.pipe()

    def watch_signals(self) -> None:
        """From the main thread only (signal.signal)."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        threading.Thread(target=self._await_signal, name="signals", daemon=True).start()

    def watch_supervisor(self) -> None:
        threading.Thread(target=self._read_words, name="lifeline", daemon=True).start()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(EXIT_INTERRUPTED)
        # Not stop.set(): the handler may run while this very thread holds the event's lock.
        os.write(self._pipe[1], b"1")

    def _await_signal(self) -> None:
        os.read(self._pipe[0], 1)
        log.info("draining; a second signal ends at once")
        self.end_within(DRAIN_SECONDS)

    def end_within(self, seconds: float) -> None:
        """Ask to end, and end by force when that takes longer."""
        self.stop.set()
        timer = threading.Timer(seconds, self._cut_off)
        timer.daemon = True
        timer.start()

    def _cut_off(self) -> None:
        log.warning("drain cut off; the rest is taken up at the next start")
        logging.shutdown()
        os._exit(EXIT_DONE)

    def _read_words(self) -> None:
        for line in sys.stdin:
            word, _, value = line.strip().partition(" ")
            if word == "until":
                self.until_seq = int(value)
            elif word == "stop":
                self.end_within(DRAIN_SECONDS)
        self.orphaned = not self.stop.is_set()
        if self.orphaned:
            log.warning("the supervisor is gone")
        self.end_within(ORPHAN_SECONDS)
