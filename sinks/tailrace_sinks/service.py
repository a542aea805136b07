"""The sink process, top to bottom: read commit records, build a batch, apply it, say what the target holds.

The target's own progress decides where to go on, at the start and after every trouble. Only this file retries.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from tailrace_log.log import CommitRecord, DeadLetter, EventLog, LogReader
from tailrace_schemas.avro import table_of
from tailrace_schemas.errors import Act, FencedError, PositionLostError, RefusedError, StopError, TailraceError, policy
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.table import TableSchema
from tailrace_sinks.batch import Limits, LogBatch, batch_length, check_sequence, rows_of
from tailrace_sinks.sink import Progress, Sink
from tailrace_sinks.status import SinkStatus

log_ = logging.getLogger(__name__)

POLL_SECONDS = 0.5
READ_AHEAD = 1000  # commit records held in memory beyond the batch
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0

Until = Callable[[CommitRecord], bool]


def run_sink(
    log: EventLog,
    sink: Sink,
    *,
    name: str,
    stop: threading.Event,
    status: SinkStatus,
    until: Until | None = None,
    first_connect_seconds: float | None = None,
    limits: Limits | None = None,
) -> None:
    """Apply the log to the target until `stop` is set (the batch in hand is finished first) or `until` is satisfied.

    `name` is the sink's name, by which the log keeps records for it. `until` is asked about the last applied commit
    record, after every batch and at least every half second while idle. Trouble that passes is retried for ever, but
    for `first_connect_seconds` as long as nothing was reached yet. Closes neither `log` nor `sink`.

    Raises:
        TailraceError: a person is needed; `status` holds it as well. Its position is what the target holds.
    """
    process = _Process(log, sink, name, stop, status, until, limits or Limits())
    deadline = None if first_connect_seconds is None else time.monotonic() + first_connect_seconds
    pause = FIRST_PAUSE
    while True:
        try:
            process.run()
            status.set_state("stopped")
            return
        except TailraceError as error:
            given_up = deadline is not None and not process.was_open and time.monotonic() > deadline
            passing = policy(error) is Act.RETRY or (isinstance(error, RefusedError) and process.was_open)
            retried = passing and not given_up
            error.position = error.position or status.position or None
            status.failed(error, retried=retried)
            if not retried:
                raise
            _tell(name, error)
        pause = FIRST_PAUSE if process.progressed() else min(pause * 2, LONGEST_PAUSE)
        if stop.wait(pause * random.uniform(0.5, 1.0)):  # noqa: S311 (spread, not secrecy)
            status.set_state("stopped")
            return


def _tell(name: str, error: TailraceError) -> None:
    level = logging.INFO if isinstance(error, FencedError) else logging.WARNING
    log_.log(level, "sink tries again", extra={"sink": name, "code": error.code, "reason": error.message})


class Schemas:
    """Value schema id → TableSchema, asked of the registry once each."""

    def __init__(self, log: EventLog) -> None:
        self._registry = log.registry
        self._known: dict[int, TableSchema] = {}

    def __call__(self, schema_id: int) -> TableSchema:
        if schema_id not in self._known:
            text = self._registry.schema(schema_id)
            try:
                self._known[schema_id] = table_of(text)
            except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
                raise StopError(
                    f"schema {schema_id} does not describe a table",
                    code="UNKNOWN_SCHEMA",
                    detail=str(error),
                    hint="this log was not written by Tailrace, or its registry was replaced",
                ) from error
        return self._known[schema_id]


class _Process:
    """State of one `run_sink`: what has been read ahead and where the target stands."""

    def __init__(
        self,
        log: EventLog,
        sink: Sink,
        name: str,
        stop: threading.Event,
        status: SinkStatus,
        until: Until | None,
        limits: Limits,
    ) -> None:
        self._log, self._sink, self._name = log, sink, name
        self._stop, self._status, self._until, self._limits = stop, status, until, limits
        self._schemas = Schemas(log)
        self._batches = 0
        self.was_open = False

    def progressed(self) -> bool:
        """True when batches were applied since it was last asked."""
        count, self._batches = self._batches, 0
        return count > 0

    def run(self) -> None:
        """Until stopped or done. Every call begins at the target's own progress."""
        progress = self._sink.open(take_over=not self.was_open)
        self.was_open = True
        self._status.opened(progress)
        reader = self._log.reader()
        try:
            self._note(reader, progress.letters)
            self._apply_all(reader, progress)
        finally:
            reader.close()

    def _apply_all(self, reader: LogReader, progress: Progress) -> None:
        last = self._last_applied(reader, progress.next_seq)
        pending: list[CommitRecord] = []
        next_seq = progress.next_seq
        while not self._stop.is_set():
            if last is not None and self._until is not None and self._until(last):
                return
            self._read_ahead(reader, pending, next_seq)
            count = batch_length(pending, self._limits)
            if not count:
                continue
            batch = LogBatch(pending[:count], reader, self._schemas, self._limits)
            applied = self._sink.write(batch)
            self._batches += 1
            self._note(reader, applied.letters)
            last = pending[count - 1]
            del pending[:count]
            next_seq = last.seq + 1
            self._status.batch_applied(last.seq, last.position, applied, batch.rows_read, batch.bytes_read)
            self._note_lag(batch.records, pending)
            # The log keeps the last record applied: the next process begins by looking at it (`_last_applied`).
            reader.applied(self._name, last.seq - 1)

    def _note(self, reader: LogReader, letters: Sequence[DeadLetter]) -> None:
        """What was set aside is in the target, and stays there until the log has it."""
        if letters:
            reader.set_aside(list(letters))
            failpoint("sink.letters")
            self._sink.noted(letters)

    def _last_applied(self, reader: LogReader, next_seq: int) -> CommitRecord | None:
        """The record the target stands at, for `until`; None where there is none yet."""
        if next_seq == 0 or self._until is None:
            return None
        try:
            found = reader.commits(next_seq - 2, 1, POLL_SECONDS)
        except PositionLostError:
            return None  # trimmed; the log keeps its newest record, so there is another one to apply
        return found[0] if found else None

    def _read_ahead(self, reader: LogReader, pending: list[CommitRecord], next_seq: int) -> None:
        """Append the commit records that are there; wait for one when there is nothing to apply."""
        after = pending[-1].seq if pending else next_seq - 1
        ready = batch_length(pending, self._limits) > 0
        if ready and len(pending) >= READ_AHEAD:
            return
        found = reader.commits(after, READ_AHEAD, 0.0 if ready else POLL_SECONDS)
        check_sequence(found, after + 1)
        pending.extend(found)
        if not pending:
            self._status.lag(0.0, 0.0, 0)

    def _note_lag(self, records: list[CommitRecord], pending: list[CommitRecord]) -> None:
        last = records[-1]
        now = time.time()
        source_to_log = max(0.0, (last.written_ms - last.source_ms) / 1000) if last.source_ms else 0.0
        log_to_target = max(0.0, now - last.written_ms / 1000) if last.written_ms else 0.0
        self._status.lag(source_to_log, log_to_target, sum(rows_of(record) for record in pending))
