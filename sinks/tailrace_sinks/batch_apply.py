"""What every database sink does with the steps of a batch: rows and markers in order, whatever the target's words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from tailrace_log.log import DeadLetter, Marker
from tailrace_schemas.errors import EventError
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks import cascade
from tailrace_sinks.cascade import Cascades, Event, in_source_order, schemas_in, table_of
from tailrace_sinks.dead_letter import (
    StaleKeys,
    Unclear,
    apply_surviving,
    events,
    is_partial,
    letters,
    stale_key,
    too_many,
)
from tailrace_sinks.decode import Change, Counts
from tailrace_sinks.envelope import FAULTS, Plan
from tailrace_sinks.letters import KeptLetter, LetterId, LetterTable
from tailrace_sinks.parked import refuse_in_order
from tailrace_sinks.plan import Dialect, decode_plan
from tailrace_sinks.replay import Blocked, Replaying, Verdict, replay
from tailrace_sinks.row_errors import unreadable
from tailrace_sinks.rows import Part, levels
from tailrace_sinks.sink import Applied, Progress, Rows, SinkBatch, SinkConfig, Slice, Step

C = TypeVar("C")  # a connection
T = TypeVar("T")
FEWEST_EVENTS = 1000  # a share of fewer says nothing
C_contra = TypeVar("C_contra", contravariant=True)


class Table(Protocol[C_contra]):
    """One source table under one schema id, and its target."""

    def apply_one(self, connection: C_contra, /, change: Change) -> None: ...


class Parked(Protocol):
    def hold(self, source: TableId) -> bool: ...


class BatchApply(ABC, Generic[C]):
    """Base of the sinks that apply in a database. `_table`: the target table at work, for errors."""

    dialect: Dialect
    quoting: int  # the Q_ code of `envelope` for single changes

    def __init__(self, config: SinkConfig, letter_table: LetterTable[C], parked: Parked) -> None:
        self._config = config
        self._letter_table, self._parked_rows = letter_table, parked
        self._waiting: tuple[DeadLetter, ...] = ()
        self._stale, self._set_aside = StaleKeys(), 0
        self._seen, self._seen_refused = 0, 0
        self._described: dict[TableId, TableSchema] = {}
        self._table: TableId | None = None

    # ---- what a target has words of its own for

    @abstractmethod
    def _actions(self, connection: C, /) -> cascade.Target: ...

    @abstractmethod
    def _prepared(self, connection: C, /, schema: TableSchema) -> Table[C]: ...

    @abstractmethod
    def _apply_part(self, connection: C, /, schema: TableSchema, part: Part) -> Counts: ...

    @abstractmethod
    def _apply_marker(self, connection: C, /, marker: Marker, batch: SinkBatch, applied: Applied) -> None: ...

    @abstractmethod
    def _attempt(
        self, connection: C, /, rows: Rows, keep: bool, batch: SinkBatch, applied: Applied
    ) -> EventError | Unclear | None:
        """See `dead_letter.Attempt`."""

    @abstractmethod
    def _looking(self, work: Callable[[C], T], /) -> T:
        """What `work` finds over a new connection."""

    @abstractmethod
    def _alone(self, work: Callable[[C], T], /) -> T:
        """What `work` does in one target transaction that holds the sink's progress rows, under a new epoch: a process
        that applies batches meanwhile is fenced at its next one, and reads everything anew."""

    # ---- what is the same everywhere

    def kept_letters(self) -> list[KeptLetter]:
        return self._looking(self._letter_table.kept)

    def replay(self, wanted: Mapping[LetterId, bytes | None], schema: Callable[[int], TableSchema]) -> list[Verdict]:
        def work(connection: C) -> list[Verdict]:
            kept = self._letter_table.kept(connection)
            batch = Replaying(schema)
            verdicts, marks = replay(
                kept,
                wanted,
                lambda event: is_partial(event, schema, self._plan),
                lambda rows: self._try_again(connection, rows, batch),
            )
            self._letter_table.mark(connection, marks)
            return verdicts

        return self._alone(work)

    def discard(self, wanted: Collection[LetterId]) -> int:
        def work(connection: C) -> int:
            found = [kept for kept in self._letter_table.kept(connection) if kept.id in wanted and not kept.done]
            self._letter_table.mark(connection, [(kept.id, kept.waits, "discarded") for kept in found])
            return len(found)

        return self._alone(work)

    def _try_again(self, connection: C, rows: Rows, batch: Replaying) -> None:
        """
        Raises:
            Blocked: it cannot go now.
        """
        for part in _parts(rows):
            schema = batch.schema(part.schema_id)
            if self._described.get(schema.table) != schema:
                raise Blocked("the table's columns have changed since: change the row at the source once more")
            if schema.table in Cascades(self._described.values()).bound():
                raise Blocked("foreign-key actions change its table without events: change the row at the source again")
            if self._parked_rows.hold(schema.table):
                raise Blocked("rows of its table wait for unique values: again after the load")
            self._table = self._config.target_of(schema.table)
            self._prepared(connection, schema)
        for keep in (False, True):
            verdict = self._attempt(connection, rows, keep, batch, Applied())
            if isinstance(verdict, Unclear):
                raise Blocked("another row of the target has its unique value")
            if verdict is not None:
                raise Blocked(f"{verdict.code}: {verdict.detail or verdict.message}")

    def _plan(self, schema: TableSchema) -> Plan:
        return decode_plan(schema, self.dialect)

    def _with_letters(self, progress: Progress) -> Progress:
        return replace(progress, letters=self._waiting, set_aside=self._set_aside, stale_keys=self._stale.count)

    def _apply_slice(self, connection: C, slice_: Slice, batch: SinkBatch, applied: Applied) -> None:
        bound = self._bound(slice_, batch)
        if bound:
            for topic in bound:
                self._mind_stale(connection, topic, slice_.steps[topic], batch, applied)
            self._apply_in_order(connection, [slice_.steps[topic] for topic in bound], batch, applied)
        for topic, steps in slice_.steps.items():
            for step in steps if topic not in bound else ():
                if isinstance(step, Rows):
                    self._apply_step(connection, topic, step, batch, applied)
                else:
                    self._apply_marker(connection, step, batch, applied)
                failpoint("sink.step")

    def _bound(self, slice_: Slice, batch: SinkBatch) -> set[str]:
        """Topics of tables between which foreign-key actions have to be executed."""
        try:
            known = self._described | schemas_in(slice_, batch)
            tables = Cascades(known.values()).ordered_tables(slice_, batch, self._plan)
            return {t for t, steps in slice_.steps.items() if tables and table_of(steps, batch) in tables}
        except FAULTS as error:
            raise unreadable(error) from error

    def _mind_stale(self, connection: C, topic: str, steps: Sequence[Step], batch: SinkBatch, applied: Applied) -> None:
        """Where events are applied one by one none is set aside; those that make a row right do so all the same.

        Raises:
            RowRejectedError: one would mix two states (code STALE_KEY).
        """
        stale = self._stale.of(topic)
        left = set(stale)
        for event in (event for step in steps if left and isinstance(step, Rows) for event in events(step)):
            if event.key in left and event.value is not None:
                if is_partial(event, batch.schema, self._plan):
                    raise stale_key()
                left.discard(event.key)
        if left != stale:
            self._letter_table.heal(connection, topic, stale - left)
            self._stale.set(topic, left)
            applied.stale_keys += len(left) - len(stale)

    def _apply_in_order(
        self, connection: C, topics: list[tuple[Step, ...]], batch: SinkBatch, applied: Applied
    ) -> None:
        items = in_source_order(topics, batch, self._plan, self.quoting)
        for number, item in enumerate(items):
            if isinstance(item, Marker):
                self._apply_marker(connection, item, batch, applied)
                continue
            self._table = self._config.target_of(item.schema.table)
            refuse_in_order(item.schema.table, is_parked=self._parked_rows.hold(item.schema.table))
            self._prepared(connection, item.schema).apply_one(connection, item.change)
            applied.table(item.schema.table).count(item.change.op)
            following = items[number + 1] if number + 1 < len(items) else None
            pair = following if isinstance(following, Event) else None
            Cascades(self._described.values()).after(item, pair, self._actions(connection))

    def _apply_step(self, connection: C, topic: str, rows: Rows, batch: SinkBatch, applied: Applied) -> None:
        """All rows, or under `on_row_error: dead_letter` those that the target takes."""
        stale = self._stale.of(topic)
        if self._config.on_row_error == "stop" and not stale:
            self._apply_rows(connection, rows, batch, applied)
            return
        for part in _parts(rows):  # tables are made before the first savepoint, which would take them back
            self._table = self._config.target_of(batch.schema(part.schema_id).table)
            self._prepared(connection, batch.schema(part.schema_id))
        target = str(self._table)
        outcome = apply_surviving(
            rows,
            stale,
            lambda event: is_partial(event, batch.schema, self._plan),
            lambda some, keep: self._attempt(connection, some, keep, batch, applied),
        )
        if outcome.refused and self._config.on_row_error == "stop":
            raise outcome.refused[0][1]
        self._seen += rows.count
        if outcome.refused or outcome.stale != stale:
            found = letters(outcome, self._config.name, topic, batch, target)
            if healed := stale - outcome.stale:
                self._letter_table.heal(connection, topic, healed)
            self._letter_table.add(connection, found, (event.place in outcome.waiting for event, _ in outcome.refused))
            self._refuse_too_many(connection, found)
            self._stale.set(topic, outcome.stale)
            applied.letters += found
            applied.stale_keys += len(outcome.stale) - len(stale)

    def _refuse_too_many(self, connection: C, found: Sequence[DeadLetter]) -> None:
        """
        Raises:
            StopError: more is set aside than the settings allow (code DEAD_LETTERS); the batch is not applied.
        """
        config = self._config
        self._seen_refused += len(found)
        share, most = config.max_dead_letter_share, config.max_dead_letters
        if share is not None and self._seen_refused > share * max(self._seen, FEWEST_EVENTS):
            raise too_many(f"{self._seen_refused:,} of {self._seen:,} events", f"max_dead_letter_share: {share:g}")
        if found and most is not None and (count := self._letter_table.open_count(connection)) > most:
            raise too_many(f"{count:,} events", f"max_dead_letters: {most}")

    def _apply_rows(self, connection: C, rows: Rows, batch: SinkBatch, applied: Applied) -> None:
        for part in _parts(rows):
            schema = batch.schema(part.schema_id)
            self._table = self._config.target_of(schema.table)
            counts = self._apply_part(connection, schema, part)
            total = applied.table(schema.table)
            total.loaded += counts.loaded
            total.inserts += counts.inserts
            total.updates += counts.updates
            total.deletes += counts.deletes

    def _forget_stale(self, connection: C, topic: str, applied: Applied) -> None:
        """The table is emptied: no key of it is behind any more."""
        if stale := self._stale.of(topic):
            self._letter_table.heal(connection, topic)
            self._stale.set(topic, ())
            applied.stale_keys -= len(stale)


def adds_columns(known: TableSchema, schema: TableSchema) -> bool:
    """Events may come under an older description than the one applied; only what they add must be there."""
    return not {c.name for c in schema.columns} <= {c.name for c in known.columns}


def _parts(rows: Rows) -> list[Part]:
    try:
        return levels(rows)
    except (ValueError, IndexError) as error:
        raise unreadable(error) from error
