"""Foreign-key actions that the source's log does not carry, executed on the target's rows (rule D7).

MariaDB, and MySQL before 9.6, log the parent's row only when it is deleted or its key changed; the children that went
with it are not in the binlog. So where a batch deletes or re-keys such a parent, all events of the tables bound
together by these keys are applied one by one in source order, and the declared action follows the parent's event.
A source that logs the actions itself loses nothing by it: its own events then find the rows as they should be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from tailrace_log.log import Marker
from tailrace_schemas.errors import TableStopError
from tailrace_schemas.table import ForeignKey, TableId, TableSchema
from tailrace_sinks import decode, envelope
from tailrace_sinks.decode import Change
from tailrace_sinks.envelope import MISSING
from tailrace_sinks.rows import levels
from tailrace_sinks.sink import Rows, SinkBatch, SinkConfig, Slice, Step

ACTIONS = ("CASCADE", "SET NULL")
Values = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Child:
    """A table whose rows an action of `key` may touch."""

    schema: TableSchema
    key: ForeignKey


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a table, in the place the source gave it."""

    schema: TableSchema
    change: Change
    loaded: bool


class Target(Protocol):
    """What an action does to a target's rows. Values are as `Change` holds them for this target; it concerns the rows
    of `table` whose `columns` equal `values`."""

    def rows(
        self, table: TableId, columns: tuple[str, ...], values: Values, wanted: tuple[str, ...]
    ) -> list[Values]: ...

    def delete(self, table: TableId, columns: tuple[str, ...], values: Values) -> None: ...

    def update(self, table: TableId, columns: tuple[str, ...], values: Values, new: Values) -> None: ...


class Cascades:
    """The actions among the tables a sink knows, by source table."""

    def __init__(self, schemas: Iterable[TableSchema]) -> None:
        self.children: dict[TableId, list[Child]] = defaultdict(list)
        for schema in schemas:
            for key in schema.foreign_keys:
                if acts(schema, key):
                    self.children[key.parent].append(Child(schema, key))

    def bound(self) -> set[TableId]:
        """Tables whose rows an action may change, or cause to change."""
        return set(self.children) | {child.schema.table for found in self.children.values() for child in found}

    def family(self, table: TableId) -> set[TableId]:
        """The table and all below it."""
        found, todo = {table}, [table]
        while todo:
            for child in self.children.get(todo.pop(), ()):
                if child.schema.table not in found:
                    found.add(child.schema.table)
                    todo.append(child.schema.table)
        return found

    def ordered_tables(
        self, slice_: Slice, batch: SinkBatch, plan: Callable[[TableSchema], envelope.Plan]
    ) -> set[TableId]:
        """Tables whose events in this slice must be applied in source order.

        Raises:
            envelope.FAULTS: records that cannot be read.
        """
        out: set[TableId] = set()
        if self.children:
            for schema, frames in _streamed(slice_, batch):
                if schema.table in self.children and schema.table not in out and self._acts_in(schema, frames, plan):
                    out |= self.family(schema.table)
        return out

    def _acts_in(self, schema: TableSchema, frames: bytes, plan: Callable[[TableSchema], envelope.Plan]) -> bool:
        return any(
            change.op == envelope.OP_DELETE or (change.op == envelope.OP_UPDATE and self._moves(schema, change))
            for change in decode.changes(plan(schema), frames, True, envelope.Q_RAW)
        )

    def _moves(self, schema: TableSchema, change: Change) -> bool:
        return any(
            values(schema, change.before, child.key.parent_columns)
            != values(schema, change.after, child.key.parent_columns)
            for child in self.children[schema.table]
        )

    def after(self, event: Event, following: Event | None, target: Target) -> None:
        """Execute what the source did after `event`. A key change is a delete and the create that follows it."""
        change = event.change
        new = change.after
        if change.op == envelope.OP_DELETE and change.moved and following is not None:
            new = following.change.after
        old = _named(event.schema, change.before)
        if change.op in (envelope.OP_DELETE, envelope.OP_UPDATE) and old is not None:
            self._act(event.schema.table, old, _named(event.schema, new), target)

    def _act(self, table: TableId, old: Mapping[str, object], new: Mapping[str, object] | None, target: Target) -> None:
        """A row of `table` went (`new` is None) or changed."""
        for child in self.children.get(table, ()):
            before = tuple(old[name] for name in child.key.parent_columns)
            after = None if new is None else tuple(new[name] for name in child.key.parent_columns)
            if before == after or None in before:
                continue
            action = child.key.on_delete if after is None else child.key.on_update
            if action in ACTIONS:
                self._touch(child, before, after if action == "CASCADE" else (None,) * len(before), target)

    def _touch(self, child: Child, before: Values, after: Values | None, target: Target) -> None:
        """Delete the child's rows, or give them other values; then the same below it."""
        table, columns = child.schema.table, child.key.columns
        below = tuple(dict.fromkeys(n for c in self.children.get(table, ()) for n in c.key.parent_columns))
        rows = target.rows(table, columns, before, below) if below else []
        if after is None:
            target.delete(table, columns, before)
        else:
            target.update(table, columns, before, after)
        for row in rows:
            old = dict(zip(below, row, strict=True))
            new = None if after is None else old | dict(zip(columns, after, strict=True))
            self._act(table, old, new, target)


def acts(schema: TableSchema, key: ForeignKey) -> bool:
    """Whether this key has an action that its source does not log."""
    return schema.engine != "postgresql" and (key.on_delete in ACTIONS or key.on_update in ACTIONS)


def refuse_actions(schema: TableSchema, config: SinkConfig) -> None:
    """
    Raises:
        TableStopError: the table has such a key and `cascades` is `refuse` (code CASCADES).
    """
    names = [key.name for key in schema.foreign_keys if acts(schema, key)]
    if names and config.cascades == "refuse":
        raise TableStopError(
            f'foreign keys of "{schema.table}" act on rows without a trace in the source\'s log',
            code="CASCADES",
            detail=f"keys {', '.join(names)}",
            hint='set cascades to "emulate", or drop their ON DELETE and ON UPDATE actions at the source',
            table=schema.table,
        )


def values(schema: TableSchema, row: list[object] | None, names: tuple[str, ...]) -> Values:
    named = _named(schema, row)
    return () if named is None else tuple(named.get(name, MISSING) for name in names)


def _named(schema: TableSchema, row: list[object] | None) -> dict[str, object] | None:
    return None if row is None else {c.name: v for c, v in zip(schema.columns, row, strict=True)}


def schemas_in(slice_: Slice, batch: SinkBatch) -> dict[TableId, TableSchema]:
    """Those of the slice's streamed events.

    Raises:
        envelope.FAULTS: records that cannot be read.
    """
    return {schema.table: schema for schema, _ in _streamed(slice_, batch)}


def _streamed(slice_: Slice, batch: SinkBatch) -> Iterator[tuple[TableSchema, bytes]]:
    for steps in slice_.steps.values():
        for step in steps:
            if isinstance(step, Rows):
                for part in levels(step):
                    if not part.loaded:
                        yield from ((batch.schema(part.schema_id), frames) for frames in part.frames)


def table_of(steps: tuple[Step, ...], batch: SinkBatch) -> TableId | None:
    """Whose records these are; None for tombstones alone."""
    for step in steps:
        if isinstance(step, Marker):
            return TableId(step.schema, step.table)
        for part in levels(step):
            return batch.schema(part.schema_id).table
    return None


def in_source_order(
    topics: Iterable[tuple[Step, ...]],
    batch: SinkBatch,
    plan: Callable[[TableSchema], envelope.Plan],
    quoting: int,
) -> list[Event | Marker]:
    """All events of some topics as the source had them; a marker stands before the first event of its topic that comes
    after it.

    Raises:
        envelope.FAULTS: records that cannot be read.
    """
    placed: list[tuple[tuple[int, ...], Event | Marker]] = []
    for steps in topics:
        waiting: list[Marker] = []
        for step in steps:
            if isinstance(step, Marker):
                waiting.append(step)
                continue
            events = sorted(_events(step, batch, plan, quoting), key=lambda found: found[0])
            placed += [(events[0][0] if events else _LAST, marker) for marker in waiting]
            placed += events
            waiting = []
        placed += [(_LAST, marker) for marker in waiting]
    return [item for _, item in sorted(placed, key=lambda found: found[0])]


_LAST = (1 << 62,)


def _events(
    rows: Rows, batch: SinkBatch, plan: Callable[[TableSchema], envelope.Plan], quoting: int
) -> Iterator[tuple[tuple[int, ...], Event]]:
    for piece in rows.pieces:
        for schema_id, frames in decode.schema_runs(piece.frames):
            if schema_id >= 0:
                schema = batch.schema(schema_id)
                for change in decode.changes(plan(schema), frames, schema.engine != "postgresql", quoting):
                    yield (piece.seq, *change.order), Event(schema, change, piece.loaded)
