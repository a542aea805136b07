"""The sink process, seen by a target that only notes what it is given."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from fix_sink import ITEMS, Stream

from tailrace_log.log import CommitRecord, DeadLetter
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import Finding, TargetUnavailableError
from tailrace_schemas.table import TableSchema
from tailrace_sinks.batch import Limits
from tailrace_sinks.service import run_sink
from tailrace_sinks.sink import Applied, Progress, SinkBatch
from tailrace_sinks.status import SinkStatus


class NotingSink:
    """Applies every batch at the second attempt; `told`: the last record that the log could forget, at each attempt."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._next_seq = 0
        self.told: list[tuple[int, int]] = []

    def open(self, *, take_over: bool) -> Progress:
        return Progress(self._next_seq, "", 1)

    def write(self, batch: SinkBatch) -> Applied:
        self.told.append((batch.first_seq, self._log.progress.get("replica", -1)))
        if len(self.told) % 2:
            raise TargetUnavailableError("not now")
        self._next_seq = batch.last_seq + 1
        return Applied()

    def noted(self, letters: Sequence[DeadLetter]) -> None: ...

    def findings(self, schemas: list[TableSchema]) -> list[Finding]:
        return []

    def close(self) -> None: ...


def test_the_log_may_forget_only_what_the_target_holds(monkeypatch: Any) -> None:
    monkeypatch.setattr("tailrace_sinks.service.FIRST_PAUSE", 0.001)
    log = MemoryLog()
    stream = Stream(log)
    for n in range(4):
        stream.insert(ITEMS, id=n)
        stream.commit()
    sink = NotingSink(log)

    def done(record: CommitRecord) -> bool:
        return record.seq == 3

    stop, status = threading.Event(), SinkStatus("replica")
    run_sink(log, sink, name="replica", stop=stop, status=status, until=done, limits=Limits(rows=1))
    assert [first for first, _ in sink.told] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(forgettable < first for first, forgettable in sink.told)
    assert log.progress["replica"] == 2  # the last one applied stays: the next process begins by looking at it
