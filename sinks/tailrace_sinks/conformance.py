"""What every database sink must do, as cases that run against a real target: the executable form of `sink.py`.

A sink's own test makes a `Harness` and runs each function of `CASES`. Cases use integers and text only; how types come
out is each sink's own matter. They write events with fastavro into a memory log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from tailrace_log.log import CommitRecord
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import FencedError, OutcomeUnknownError, StopError, TableStopError, TailraceError
from tailrace_schemas.table import Column, ForeignKey, TableSchema
from tailrace_schemas.topic import commit_topic
from tailrace_schemas.types import INT32, INT64, STRING, LogicalType
from tailrace_sinks.batch import Limits, LogBatch
from tailrace_sinks.conformance_stream import Row, Stream, column, table
from tailrace_sinks.service import Schemas, run_sink
from tailrace_sinks.sink import Applied, Sink, SinkBatch, SinkConfig, Slice
from tailrace_sinks.status import SinkStatus

Rows = list[tuple[object, ...]]


class Harness(Protocol):
    """One target, empty at the start. `schema` is the namespace the source's tables have; it must not exist yet."""

    engine: str
    schema: str

    def sink(self, config: SinkConfig) -> Sink: ...

    def execute(self, statement: str) -> None:
        """Run a statement of the engines' common dialect; names are quoted with double quotes."""

    def query(self, statement: str) -> Rows:
        """The same for a SELECT."""

    def history(self, table: str) -> None:
        """Make triggers that fire for applied changes and note (op, id, v) in a table `<table>_history`."""


class World:
    """A log, a stream into it, and one sink of it. `connections`: those of consistency key; 0 is transaction."""

    def __init__(
        self, harness: Harness, *, partitions: int = 1, engine: str = "postgresql", connections: int = 0
    ) -> None:
        self.harness = harness
        self.engine = engine
        self.log = MemoryLog(prefix="conform", partitions=partitions)
        self.stream = Stream(self.log)
        self.status = SinkStatus("replica")
        config = SinkConfig("shop", "replica", commit_topic(self.log.prefix), self.log.log_id)
        self.config = replace(config, consistency="key", connections=connections) if connections else config
        self.sink = harness.sink(self.config)

    def table(self, name: str, *extra: Column, key: tuple[str, ...] = ("id",), **more: Any) -> TableSchema:
        """id bigint, v integer, name text."""
        columns = [
            column("id", INT64, "bigint", nullable="id" not in key),
            column("v", INT32, "integer"),
            column("name", LogicalType("string", length=60), "character varying(60)"),
            *extra,
        ]
        return table(name, *columns, key=key, engine=self.engine, schema=self.harness.schema, **more)

    def apply(self, limits: Limits | None = None) -> None:
        """Everything that is in the log."""
        last = self.stream.seq - 1
        self.run(lambda record: record.seq >= last, limits)

    def run(self, until: Callable[[CommitRecord], bool], limits: Limits | None = None) -> None:
        run_sink(
            self.log,
            self.sink,
            name="replica",
            stop=threading.Event(),
            status=self.status,
            until=until,
            first_connect_seconds=0,
            limits=limits,
        )

    def failure(self, limits: Limits | None = None) -> TailraceError:
        """The error that ends the sink."""
        try:
            self.apply(limits)
        except TailraceError as error:
            return error
        raise AssertionError("the sink did not stop")

    def rows(self, schema: TableSchema) -> Rows:
        """id, v, name in order of id and v."""
        return self.harness.query(f"SELECT id, v, name FROM {self.name(schema)} ORDER BY id, v, name")

    def name(self, schema: TableSchema) -> str:
        return f'"{schema.table.schema}"."{schema.table.name}"'

    def batch(self, first: int, last: int) -> LogBatch:
        return LogBatch(self.log.records[first : last + 1], self.log.reader(), Schemas(self.log), Limits())

    def close(self) -> None:
        self.sink.close()


def row(id_: int, v: int | None = 0, name: str | None = "n") -> Row:
    return {"id": id_, "v": v, "name": name}


# ---- changes


def inserts_updates_and_deletes(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.insert(t, **row(2))
    s.insert(t, **row(3))
    s.commit()
    world.apply()
    s.update(t, **row(1, 5, None))
    s.delete(t, **row(2))
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 5, None), (3, 0, "n")]
    total = world.status.total
    assert (total.inserts, total.updates, total.deletes) == (3, 1, 1)


def loaded_rows_arrive_and_may_come_again(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.load(t, [row(n) for n in range(100)])
    s.chunk()
    s.load(t, [row(n, 1) for n in range(50, 150)])
    s.chunk()
    world.apply()
    assert world.rows(t) == [(n, 1 if n >= 50 else 0, "n") for n in range(150)]
    assert world.status.total.loaded == 200


def a_key_change_leaves_no_old_row(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.insert(t, **row(2))
    s.commit()
    world.apply()
    s.rekey(t, row(1), row(7))
    s.rekey(t, row(2), row(1, 9))
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 9, "n"), (7, 0, "n")]


def null_stays_null_and_empty_text_empty(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1, None, None))
    s.insert(t, **row(2, 0, ""))
    s.insert(t, **row(3, 0, "\\N"))
    s.insert(t, **row(4, 0, "NULL"))
    s.insert(t, **row(5, 0, "tab\tline\nback\\slash 'quote' é😀"))
    s.commit()
    world.apply()
    assert [r[1:] for r in world.rows(t)] == [
        (None, None),
        (0, ""),
        (0, "\\N"),
        (0, "NULL"),
        (0, "tab\tline\nback\\slash 'quote' é😀"),
    ]


def columns_not_sent_keep_their_value(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1, 1, "kept"))
    s.insert(t, **row(2, 1, "kept"))
    s.commit()
    world.apply()
    s.event(t, "u", None, row(1, 2, "__debezium_unavailable_value"), unavailable=["name"])
    s.event(t, "u", None, row(2, None, "new"), unavailable=["v"])
    s.event(t, "c", None, row(3, 1, "whole"))
    s.event(t, "u", None, row(3, 4, None), unavailable=["name"])
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 2, "kept"), (2, 1, "new"), (3, 4, "whole")]


def a_partial_update_of_a_missing_row_stops(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    s.event(t, "u", None, row(9, 2, None), unavailable=["name"])
    s.commit()
    error = world.failure()
    assert (type(error), error.code) == (StopError, "ROW_MISSING")


def tables_without_key_keep_duplicates_and_lose_exactly_one(world: World) -> None:
    t, s = world.table("t", key=()), world.stream
    s.load(t, [row(1), row(1), row(1), row(2, None, None)])
    s.chunk()
    s.insert(t, **row(1))
    s.delete(t, **row(1))
    s.event(t, "u", row(1), row(1, 5))
    s.delete(t, **row(2, None, None))
    s.insert(t, **row(3))
    s.delete(t, **row(3))
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 0, "n"), (1, 0, "n"), (1, 5, "n")]


def deleting_a_row_that_is_not_there_stops_a_table_without_key(world: World) -> None:
    t, s = world.table("t", key=()), world.stream
    s.insert(t, **row(1))
    s.delete(t, **row(2))
    s.commit()
    assert world.failure().code == "ROW_MISSING"


def a_composite_key_in_another_order_than_the_columns(world: World) -> None:
    t, s = world.table("t", column("part", INT32, nullable=False), key=("part", "id")), world.stream
    s.insert(t, **row(1), part=1)
    s.insert(t, **row(1, 7), part=2)
    s.commit()
    s.delete(t, **row(1), part=1)
    s.update(t, **row(1, 8), part=2)
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT id, part, v FROM {world.name(t)}") == [(1, 2, 8)]


def odd_names_are_copied_as_plain_names(world: World) -> None:
    odd = ['x"; DROP TABLE victim; --', "it's", "%s", "{0}", "a`b", "select", "Größe ☃"]
    schema = table(
        't"; DROP TABLE victim; --`%s',
        column("id", INT64, "bigint", nullable=False),
        *[column(name) for name in odd],
        engine=world.engine,
        schema=world.harness.schema,
    )
    keyless = table(
        "k%s'\"`",
        *[column(name) for name in odd],
        key=(),
        engine=world.engine,
        schema=world.harness.schema,
    )
    s = world.stream
    values = {name: n for n, name in enumerate(odd)}
    s.insert(schema, id=1, **values)
    s.event(schema, "u", None, {"id": 1, **values, "%s": 50}, unavailable=["it's"])
    s.insert(keyless, **values)
    s.event(keyless, "u", values, {**values, "%s": 50})
    s.commit()
    world.apply()
    assert world.status.total.inserts == 2


# ---- unique values, foreign keys


def unique_values_may_change_places_inside_a_batch(world: World) -> None:
    t, s = world.table("t"), world.stream
    for n in range(1, 5):
        s.insert(t, **row(n, n, f"mail{n}"))
    s.commit()
    world.apply()
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    s.update(t, **row(1, 1, "swap"))
    s.update(t, **row(2, 2, "mail1"))
    s.update(t, **row(1, 1, "mail2"))
    s.delete(t, **row(3))
    s.insert(t, **row(5, 5, "mail3"))
    s.event(t, "u", None, row(4, 44, None), unavailable=["name"])
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 1, "mail2"), (2, 2, "mail1"), (4, 44, "mail4"), (5, 5, "mail3")]


def a_row_never_overwrites_another_through_a_secondary_unique_key(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1, 1, "a@b.example"))
    s.commit()
    world.apply()
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    s.insert(t, **row(2, 2, "a@b.example"))
    s.commit()
    error = world.failure()
    assert error.code == "ROW_REJECTED"
    assert world.rows(t) == [(1, 1, "a@b.example")]
    assert "a@b.example" not in str(error)


def family(world: World) -> tuple[TableSchema, TableSchema, TableSchema]:
    """A MySQL source's parent, child (both actions CASCADE) and, below the child, one whose actions are SET NULL."""
    world.engine, world.log.partitions = "mysql", 3
    parent = world.table("parent")
    to_parent = ForeignKey("c", ("v",), parent.table, ("id",), "CASCADE", "CASCADE")
    child = world.table("child", foreign_keys=(to_parent,))
    to_child = ForeignKey("g", ("v",), child.table, ("id",), "SET NULL", "SET NULL")
    below = world.table("below", foreign_keys=(to_child,))
    s = world.stream
    for n in (1, 2):
        s.insert(parent, **row(n))
        s.insert(child, **row(10 + n, n))
        s.insert(child, **row(20 + n, n))
        s.insert(below, **row(100 + n, 10 + n))
    s.commit()
    world.apply()
    return parent, child, below


def what_a_deleted_parent_takes_along_goes_and_later_rows_stay(world: World) -> None:
    parent, child, below = family(world)
    s = world.stream
    s.delete(parent, **row(1))
    s.insert(parent, **row(1, 5))
    s.insert(child, **row(31, 1))
    s.insert(below, **row(103, 31))
    s.insert(child, **row(12 + 20, 2))
    s.delete(parent, **row(3))
    s.commit()
    world.apply()
    assert world.rows(parent) == [(1, 5, "n"), (2, 0, "n")]
    assert world.rows(child) == [(12, 2, "n"), (22, 2, "n"), (31, 1, "n"), (32, 2, "n")]
    assert world.rows(below) == [(101, None, "n"), (102, 12, "n"), (103, 31, "n")]


def children_follow_a_parents_key(world: World) -> None:
    parent, child, below = family(world)
    s = world.stream
    s.rekey(parent, row(1), row(7))
    s.insert(child, **row(41, 7))
    s.rekey(child, row(12, 2), row(52, 2))
    s.commit()
    world.apply()
    assert world.rows(parent) == [(2, 0, "n"), (7, 0, "n")]
    assert world.rows(child) == [(11, 7, "n"), (21, 7, "n"), (22, 2, "n"), (41, 7, "n"), (52, 2, "n")]
    assert world.rows(below) == [(101, 11, "n"), (102, None, "n")]


def actions_are_refused_where_asked_for(world: World) -> None:
    world.config = replace(world.config, cascades="refuse")
    world.sink = world.harness.sink(world.config)
    try:
        family(world)
    except TableStopError as error:
        assert error.code == "CASCADES"
    else:
        raise AssertionError("foreign-key actions were neither refused nor executed")


# ---- markers


def truncate_takes_effect_at_its_place(world: World) -> None:
    t, other, s = world.table("t"), world.table("other"), world.stream
    s.insert(t, **row(1))
    s.insert(other, **row(1))
    s.mark("truncate", t)
    s.insert(t, **row(2))
    s.commit()
    world.apply()
    assert world.rows(t) == [(2, 0, "n")]
    assert world.rows(other) == [(1, 0, "n")]
    s.mark("truncate", t)
    s.commit()
    world.apply()
    assert world.rows(t) == []


def an_event_that_tells_others_of_a_truncate_changes_nothing_by_itself(world: World) -> None:
    t, keyless, s = world.table("t"), world.table("k", key=()), world.stream
    schemas = [t] if world.config.consistency == "key" else [t, keyless]
    for schema in schemas:
        s.insert(schema, **row(1))
        s.buffer(schema).append(None, s.encoder(schema).value("t", None, None, transaction=("9", 1)))
        s.mark("truncate", schema)
        s.insert(schema, **row(2))
        s.buffer(schema).append(None, s.encoder(schema).value("t", None, None))
    s.commit()
    world.apply()
    for schema in schemas:
        assert world.rows(schema) == [(2, 0, "n")]
    assert world.status.total.inserts == 2 * len(schemas)
    assert world.status.total.deletes == 0


def reload_empties_the_table_first(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.mark("reload", t)
    s.commit()
    s.load(t, [row(1), row(2)])
    s.chunk()
    s.mark("reload", t)
    s.commit()
    s.load(t, [row(2, 5)])
    s.chunk()
    world.apply()
    assert world.rows(t) == [(2, 5, "n")]


def markers_in_several_partitions_cut_each_of_them(world: World) -> None:
    world.log.partitions = 4
    t, s = world.table("t"), world.stream
    for n in range(40):
        s.insert(t, **row(n))
    s.mark("truncate", t)
    for n in range(20, 60):
        s.insert(t, **row(n, 1))
    s.commit()
    world.apply()
    assert world.rows(t) == [(n, 1, "n") for n in range(20, 60)]


def a_stopped_marker_changes_nothing(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.mark("stopped", t, code="TYPE", message="m", remedy="r")
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 0, "n")]


# ---- schema changes


def wider(world: World, t: TableSchema, *names: str) -> TableSchema:
    more = [column(name, STRING, "text" if world.engine == "postgresql" else "longtext") for name in names]
    return table(
        t.table.name,
        *t.columns,
        *more,
        engine=world.engine,
        schema=world.harness.schema,
    )


def an_added_column_is_added(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    new = wider(world, t, "extra")
    s.schema_change(new)
    s.insert(new, **row(2), extra="x")
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT id, extra FROM {world.name(t)} ORDER BY id") == [(1, None), (2, "x")]
    assert world.status.total.ddls >= 1


def an_added_column_gives_old_rows_its_default(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    new = table(
        "t",
        *t.columns,
        column("seven", INT32, nullable=False),
        engine=world.engine,
        schema=world.harness.schema,
    )
    s.schema_change(new, defaults={"seven": "7"})
    s.insert(new, **row(2), seven=8)
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT id, seven FROM {world.name(t)} ORDER BY id") == [(1, 7), (2, 8)]


def an_added_column_whose_default_nobody_told_stops(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    new = table(
        "t",
        *t.columns,
        column("seven", INT32, nullable=False),
        engine=world.engine,
        schema=world.harness.schema,
    )
    s.schema_change(new)
    s.insert(new, **row(2), seven=8)
    s.commit()
    error = world.failure()
    assert error.code == "SCHEMA_CHANGE"
    world.harness.execute(error.hint.replace("…", "7"))
    world.apply()
    assert world.harness.query(f"SELECT id, seven FROM {world.name(t)} ORDER BY id") == [(1, 7), (2, 8)]


def a_dropped_column_is_dropped(world: World) -> None:
    t, s = wider(world, world.table("t"), "extra"), world.stream
    s.insert(t, **row(1), extra="x")
    narrow = world.table("t")
    s.schema_change(narrow)
    s.insert(narrow, **row(2))
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT * FROM {world.name(t)} ORDER BY id") == [(1, 0, "n"), (2, 0, "n")]


def a_renamed_column_keeps_its_values(world: World) -> None:
    t, s = wider(world, world.table("t"), "old"), world.stream
    s.insert(t, **row(1), old="x")
    s.commit()
    new = wider(world, world.table("t"), "new")
    s.schema_change(new, renamed={"old": "new"})
    s.insert(new, **row(2), new="y")
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT id, new FROM {world.name(t)} ORDER BY id") == [(1, "x"), (2, "y")]


def what_may_be_a_rename_or_not_stops_with_both_statements(world: World) -> None:
    t, s = wider(world, world.table("t"), "old"), world.stream
    s.insert(t, **row(1), old="x")
    s.commit()
    new = wider(world, world.table("t"), "new")
    s.schema_change(new)
    s.insert(new, **row(2), new="y")
    s.commit()
    error = world.failure()
    assert (type(error), error.code) == (TableStopError, "SCHEMA_CHANGE")
    assert "ALTER TABLE" in error.hint
    assert "ADD COLUMN" in error.hint
    world.harness.execute(f'ALTER TABLE {world.name(t)} RENAME COLUMN "old" TO "new"')
    world.apply()
    assert world.harness.query(f"SELECT id, new FROM {world.name(t)} ORDER BY id") == [(1, "x"), (2, "y")]


def what_may_be_a_rename_keeps_both_columns_where_unsafe_is_ignored(world: World) -> None:
    world.config = replace(world.config, schema_changes="ignore-unsafe")
    world.sink = world.harness.sink(world.config)
    t, s = wider(world, world.table("t"), "old"), world.stream
    s.insert(t, **row(1), old="x")
    s.commit()
    new = wider(world, world.table("t"), "new")
    s.schema_change(new)
    s.insert(new, **row(2), new="y")
    s.commit()
    world.apply()
    rows = world.harness.query(f"SELECT id, old, new FROM {world.name(t)} ORDER BY id")
    assert rows == [(1, "x", None), (2, None, "y")]


def any_change_stops_where_asked_for(world: World) -> None:
    world.config = replace(world.config, schema_changes="stop")
    world.sink = world.harness.sink(world.config)
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    s.schema_change(wider(world, t, "extra"))
    s.commit()
    error = world.failure()
    assert error.code == "SCHEMA_CHANGE"
    world.harness.execute(error.hint)
    world.apply()


def what_the_target_refuses_is_left_out_and_named_where_unsafe_is_ignored(world: World) -> None:
    world.config = replace(world.config, schema_changes="ignore-unsafe")
    world.sink = world.harness.sink(world.config)
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    columns = [column("name", INT32, "integer") if c.name == "name" else c for c in t.columns]
    s.schema_change(table("t", *columns, engine=world.engine, schema=world.harness.schema))
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 0, "n")]
    counts = world.status.tables[t.table]
    assert (counts.last_action, "name" in counts.last_ddl) == ("left out", True)


def a_widened_type_is_widened(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1, 5))
    native = {"postgresql": "bigint"}.get(world.engine, "bigint")
    columns = [column("v", INT64, native) if c.name == "v" else c for c in t.columns]
    new = table("t", *columns, engine=world.engine, schema=world.harness.schema)
    s.schema_change(new)
    s.insert(new, **row(2, 2**40))
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 5, "n"), (2, 2**40, "n")]


def a_target_table_that_lacks_a_column_stops_with_the_statement(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    world.apply()
    world.harness.execute(f"ALTER TABLE {world.name(t)} DROP COLUMN name")
    world.close()
    s.insert(t, **row(2))
    s.commit()
    error = world.failure()
    assert (error.code, error.column) == ("TARGET_MISFIT", "name")
    world.harness.execute(error.hint)
    world.apply()
    assert world.rows(t) == [(1, 0, None), (2, 0, "n")]


# ---- exactly once


def the_same_batch_twice_equals_once(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    world.sink.open(take_over=True)
    batch = world.batch(0, 0)
    world.sink.write(batch)
    try:
        world.harness.sink(world.config).open(take_over=True)
        world.sink.write(world.batch(0, 0))
    except FencedError:
        pass
    else:
        raise AssertionError("a batch was applied twice")
    assert world.sink.open(take_over=False).next_seq == 1
    assert world.rows(t) == [(1, 0, "n")]


class Breaking:
    """A batch whose content breaks off."""

    def __init__(self, batch: LogBatch, error: Exception) -> None:
        self.first_seq, self.last_seq, self.position = batch.first_seq, batch.last_seq, batch.position
        self.consistent, self.loading = batch.consistent, batch.loading
        self.schema = batch.schema
        self._batch, self._error = batch, error

    def slices(self) -> Iterator[Slice]:
        yield from self._batch.slices()
        raise self._error


def a_batch_that_breaks_off_leaves_nothing(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    world.apply()
    s.insert(t, **row(2))
    s.mark("truncate", t)
    s.insert(t, **row(3))
    s.commit()
    world.sink.open(take_over=True)
    with suppress(StopError):
        world.sink.write(Breaking(world.batch(1, 1), StopError("torn")))
    assert world.rows(t) == [(1, 0, "n")]
    assert world.sink.open(take_over=False).next_seq == 1
    world.apply()
    assert world.rows(t) == [(3, 0, "n")]


def a_zombie_is_fenced_and_changes_nothing(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    zombie = world.sink
    zombie.open(take_over=True)
    world.sink = world.harness.sink(world.config)
    world.apply()
    s.update(t, **row(1, 1))
    s.commit()
    try:
        zombie.write(world.batch(0, 1))
    except FencedError:
        pass
    else:
        raise AssertionError("a zombie applied a batch")
    zombie.close()
    assert world.rows(t) == [(1, 0, "n")]
    world.apply()
    assert world.rows(t) == [(1, 1, "n")]


class Forgetful:
    """A sink whose answer to COMMIT is lost, every time."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.open, self.findings, self.close, self.noted = sink.open, sink.findings, sink.close, sink.noted

    def write(self, batch: SinkBatch) -> Applied:
        self._sink.write(batch)
        self._sink.close()
        raise OutcomeUnknownError("the answer was lost")


def an_unknown_commit_is_decided_by_the_target(world: World) -> None:
    t, s = world.table("t", key=()), world.stream
    for n in range(3):
        s.insert(t, **row(n))
        s.commit()
    world.sink = Forgetful(world.sink)
    world.apply(Limits(rows=1))
    assert world.rows(t) == [(n, 0, "n") for n in range(3)]


def another_log_is_refused(world: World) -> None:
    world.sink.open(take_over=True)
    world.close()
    strange = SinkConfig("shop", "replica", world.config.commit_topic, "another log")
    try:
        world.harness.sink(strange).open(take_over=True)
    except StopError as error:
        assert error.code == "FOREIGN_LOG"
    else:
        raise AssertionError("another log's progress was taken over")


# ---- whole transactions


def every_operation_happens_once(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.insert(t, **row(2))
    s.commit()
    world.apply()
    world.harness.history("t")
    for v in range(1, 6):
        s.update(t, **row(1, v))
        if v == 3:
            s.delete(t, **row(2))
        s.insert(t, **row(10 + v, v))
        s.commit()
    world.run(lambda record: record.seq >= 3)
    world.apply(Limits(rows=1))
    history = world.harness.query(f'SELECT op, id, v FROM "{world.harness.schema}"."t_history" ORDER BY op, id, v')
    assert len(history) == len(set(history))
    assert ("D", 2, 0) in history
    assert [entry for entry in history if entry[0] == "I"] == [("I", 10 + v, v) for v in range(1, 6)]


def an_open_series_is_begun_when_it_is_closed(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    since = s.seq
    s.insert(t, **row(2))
    s.open_part(since)
    s.load(t, [row(50)])
    s.chunk(open=world.log.records[-1].open)
    s.insert(t, **row(3))
    s.open_part(since)
    world.run(lambda record: record.seq >= 0)
    assert world.rows(t) == [(1, 0, "n")]
    s.insert(t, **row(4))
    s.commit()
    world.apply(Limits(slice_bytes=1))
    assert world.rows(t) == [(1, 0, "n"), (2, 0, "n"), (3, 0, "n"), (4, 0, "n"), (50, 0, "n")]


def an_abandoned_series_is_left_out_but_for_its_chunks(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    since = s.seq
    s.insert(t, **row(2))
    s.open_part(since)
    s.load(t, [row(50)])
    s.chunk(open=world.log.records[-1].open)
    s.abandon(since)
    s.insert(t, **row(5))
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 0, "n"), (5, 0, "n"), (50, 0, "n")]


def what_an_abandoned_series_announced_is_announced_again(world: World) -> None:
    """Emptied, its columns as they are now, loaded anew; the transaction comes again whole."""
    t, s = wider(world, world.table("t"), "old"), world.stream
    s.insert(t, **row(1), old="x")
    s.commit()
    since = s.seq
    new = wider(world, world.table("t"), "new")
    s.schema_change(new, renamed={"old": "new"})
    s.insert(new, **row(2), new="y")
    s.open_part(since)
    s.mark("reload", new)
    s.schema_change(new, reload=True, renamed={})
    s.abandon(since)
    s.insert(new, **row(2), new="y")
    s.commit()
    s.load(new, [{**row(1), "new": "x"}])
    s.chunk()
    world.apply()
    assert world.harness.query(f"SELECT id, new FROM {world.name(t)} ORDER BY id") == [(1, "x"), (2, "y")]


def batches_joined_or_not_give_the_same(world: World) -> None:
    t, s = world.table("t"), world.stream
    for n in range(30):
        s.insert(t, **row(n))
        s.update(t, **row(n // 2, n))
        if n % 5 == 0:
            s.delete(t, **row(n // 5))
        s.commit()
    world.run(lambda record: record.seq >= 9, Limits(rows=1))
    world.apply(Limits(rows=7))
    expected: dict[int, int] = {}
    for n in range(30):
        expected[n] = 0
        expected[n // 2] = n
        if n % 5 == 0:
            expected.pop(n // 5, None)
    assert world.rows(t) == [(k, v, "n") for k, v in sorted(expected.items())]


CASES: list[Callable[[World], None]] = [
    inserts_updates_and_deletes,
    loaded_rows_arrive_and_may_come_again,
    a_key_change_leaves_no_old_row,
    null_stays_null_and_empty_text_empty,
    columns_not_sent_keep_their_value,
    a_partial_update_of_a_missing_row_stops,
    tables_without_key_keep_duplicates_and_lose_exactly_one,
    deleting_a_row_that_is_not_there_stops_a_table_without_key,
    a_composite_key_in_another_order_than_the_columns,
    odd_names_are_copied_as_plain_names,
    unique_values_may_change_places_inside_a_batch,
    a_row_never_overwrites_another_through_a_secondary_unique_key,
    what_a_deleted_parent_takes_along_goes_and_later_rows_stay,
    children_follow_a_parents_key,
    actions_are_refused_where_asked_for,
    truncate_takes_effect_at_its_place,
    an_event_that_tells_others_of_a_truncate_changes_nothing_by_itself,
    reload_empties_the_table_first,
    markers_in_several_partitions_cut_each_of_them,
    a_stopped_marker_changes_nothing,
    an_added_column_is_added,
    an_added_column_gives_old_rows_its_default,
    an_added_column_whose_default_nobody_told_stops,
    a_dropped_column_is_dropped,
    a_renamed_column_keeps_its_values,
    what_may_be_a_rename_or_not_stops_with_both_statements,
    what_may_be_a_rename_keeps_both_columns_where_unsafe_is_ignored,
    any_change_stops_where_asked_for,
    what_the_target_refuses_is_left_out_and_named_where_unsafe_is_ignored,
    a_widened_type_is_widened,
    a_target_table_that_lacks_a_column_stops_with_the_statement,
    the_same_batch_twice_equals_once,
    a_batch_that_breaks_off_leaves_nothing,
    a_zombie_is_fenced_and_changes_nothing,
    an_unknown_commit_is_decided_by_the_target,
    another_log_is_refused,
    every_operation_happens_once,
    an_open_series_is_begun_when_it_is_closed,
    an_abandoned_series_is_left_out_but_for_its_chunks,
    what_an_abandoned_series_announced_is_announced_again,
    batches_joined_or_not_give_the_same,
]
