"""The load on the sample shop: workers that run its `traffic` procedure at a steady pace, and a pulse for the lag."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import psycopg

BATCH = 25  # transactions in one call of the procedure
RENAME_SECONDS = 0.25
PULSE_SECONDS = 0.05
POLL_SECONDS = 0.01


@dataclass(slots=True)
class Traffic:
    """`rate` transactions a second over `workers` connections, until `stop`. `transactions` were committed so far."""

    conninfo: str
    rate: float
    workers: int
    stop: threading.Event = field(default_factory=threading.Event)
    transactions: int = 0
    seconds: float = 0.0
    error: psycopg.Error | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _began: float = 0.0

    def start(self) -> None:
        self._began = time.monotonic()
        works = [self._call_traffic] * self.workers + [self._rename]
        self._threads = [threading.Thread(target=self._guard, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30)
        self.seconds = time.monotonic() - self._began

    def _guard(self, work: object) -> None:
        assert callable(work)
        try:
            # The claim is about Tailrace's processes; the server is never killed, so the load need not wait for disks.
            with psycopg.connect(self.conninfo, autocommit=True, options="-c synchronous_commit=off") as connection:
                work(connection)
        except psycopg.Error as error:
            self.error = error
            self.stop.set()

    def _call_traffic(self, connection: psycopg.Connection) -> None:
        pause = BATCH * self.workers / self.rate
        due = time.monotonic()
        while not self.stop.is_set():
            connection.execute("call shop.traffic(%s)", (BATCH,))
            with self._lock:
                self.transactions += BATCH
            due += pause
            self.stop.wait(max(0.0, due - time.monotonic()))

    def _rename(self, connection: psycopg.Connection) -> None:
        while not self.stop.wait(RENAME_SECONDS):
            try:
                connection.execute("call shop.rename_product()")
            except psycopg.errors.DeadlockDetected:
                continue
            with self._lock:
                self.transactions += 1


@dataclass(slots=True)
class Pulse:
    """Writes a numbered row every 50 ms and notes when the target has it. `delays`: seconds, of rows written while
    `measuring`. The last number to arrive shows that everything committed before it has arrived."""

    source: str
    target: str
    measuring: bool = False
    delays: list[float] = field(default_factory=list)
    written: int = 0
    arrived: int = 0
    _quiet: threading.Event = field(default_factory=threading.Event)
    _closed: threading.Event = field(default_factory=threading.Event)
    _sent: dict[int, tuple[float, bool]] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._watch)]
        for thread in self._threads:
            thread.start()

    def last_word(self, timeout: float) -> bool:
        """Write no more; True when the last row written has arrived."""
        self._quiet.set()
        self._threads[0].join(10)
        deadline = time.monotonic() + timeout
        while self.arrived < self.written and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return self.arrived >= self.written

    def close(self) -> None:
        """Stop for good."""
        self._closed.set()
        self._quiet.set()
        for thread in self._threads:
            thread.join(10)

    def _write(self) -> None:
        with psycopg.connect(self.source, autocommit=True) as connection:
            quiet = False
            while not quiet:
                quiet = self._quiet.wait(PULSE_SECONDS)  # once more then: the last row stands behind everything
                if self._closed.is_set():
                    return
                number = self.written + 1
                self._sent[number] = (time.monotonic(), self.measuring)
                connection.execute("insert into shop.pulse values (%s)", (number,))
                self.written = number

    def _watch(self) -> None:
        with psycopg.connect(self.target, autocommit=True) as connection:
            while not self._closed.wait(POLL_SECONDS):
                newest = _newest(connection)
                now = time.monotonic()
                for number in range(self.arrived + 1, newest + 1):
                    sent, counted = self._sent.pop(number)
                    if counted:
                        self.delays.append(now - sent)
                self.arrived = max(self.arrived, newest)


def _newest(connection: psycopg.Connection) -> int:
    try:
        row = connection.execute("select coalesce(max(id), 0) from shop.pulse").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return 0  # the sink makes it when the load begins
    return 0 if row is None else int(row[0])
