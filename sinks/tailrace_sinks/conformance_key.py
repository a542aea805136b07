"""What every database sink must do under `consistency: key`: the cases of `conformance` that do not need whole source
transactions, and cases of its own (rule D5). They run with any number of connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from tailrace_schemas.errors import FencedError, StopError, TableStopError
from tailrace_schemas.table import ForeignKey, TableSchema
from tailrace_schemas.types import FLOAT64
from tailrace_sinks import conformance
from tailrace_sinks.batch import Limits
from tailrace_sinks.conformance import Breaking, Forgetful, World, row, wider
from tailrace_sinks.conformance_stream import column, table

PARTITIONS = 4


def refused(world: World, *schemas: TableSchema) -> TableStopError:
    """The error that stops the sink at a first event of each table."""
    for schema in schemas:
        world.stream.insert(schema, **row(1))
    world.stream.commit()
    error = world.failure()
    assert isinstance(error, TableStopError)
    assert error.hint
    findings = world.harness.sink(world.config).findings(list(schemas))
    assert error.code in {finding.code for finding in findings if finding.level == "error"}
    return error


# ---- what is refused


def a_table_without_key_is_refused_and_not_made(world: World) -> None:
    t = world.table("t", key=())
    assert refused(world, t).code == "KEY_KEYLESS"
    assert world.harness.query(f"SELECT 1 FROM information_schema.tables WHERE table_schema = '{t.table.schema}'") == []


def a_secondary_unique_key_is_refused_until_it_is_gone(world: World) -> None:
    t = made(world, "t")
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    world.close()
    error = refused(world, t)
    assert error.code == "KEY_UNIQUE"
    world.harness.execute(error.hint.partition(", or set")[0].replace("`", '"'))
    world.apply()
    assert world.rows(t) == [(0, 0, "n"), (1, 0, "n")]


def a_unique_key_made_meanwhile_is_refused_when_it_is_met(world: World) -> None:
    t, s = made(world, "t"), world.stream
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    s.insert(t, **row(9))
    s.commit()
    assert world.failure().code == "KEY_UNIQUE"
    assert world.rows(t) == [(0, 0, "n")]


def foreign_keys_of_a_table_and_to_it_are_refused(world: World) -> None:
    parent, child = made(world, "parent"), made(world, "child")
    key = f"ALTER TABLE {world.name(child)} ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES {world.name(parent)} (id)"
    world.harness.execute(key)
    world.close()
    assert refused(world, child).code == "KEY_FOREIGN_KEY"
    findings = world.sink.findings([parent])
    assert [finding.code for finding in findings if finding.level == "error"] == ["KEY_FOREIGN_KEY"]
    world.harness.execute(f"ALTER TABLE {world.name(child)} DROP CONSTRAINT fk")


def actions_that_the_source_does_not_log_are_refused(world: World) -> None:
    world.engine = "mysql"
    parent = world.table("parent")
    to_parent = ForeignKey("c", ("v",), parent.table, ("id",), "CASCADE", "CASCADE")
    assert refused(world, world.table("child", foreign_keys=(to_parent,))).code == "KEY_FOREIGN_KEY"


def a_key_whose_equal_values_differ_in_their_bytes_is_refused(world: World) -> None:
    columns = [column("id", FLOAT64, "double precision", nullable=False), *world.table("t").columns[1:]]
    t = table("t", *columns, engine=world.engine, schema=world.harness.schema)
    assert refused(world, t).code == "KEY_COLLATION"


def made(world: World, name: str) -> TableSchema:
    """A table that the sink has made, with row 0."""
    t = world.table(name)
    world.stream.insert(t, **row(0))
    world.stream.commit()
    world.apply()
    return t


# ---- markers


def a_truncate_waits_for_every_partition_and_happens_once(world: World) -> None:
    t, other, s = world.table("t"), world.table("other"), world.stream
    expected: set[int] = set()
    for round_ in range(3):
        for n in range(20):
            s.insert(t, **row(100 * round_ + n))
            s.insert(other, **row(100 * round_ + n))
        s.mark("truncate", t)
        if round_ == 1:
            s.mark("reload", t)
        expected = {1000 + 10 * round_ + n for n in range(8)}
        for n in expected:
            s.insert(t, **row(n))
        s.commit()
    world.run(lambda record: record.seq >= 0)
    world.apply()
    assert world.rows(t) == [(n, 0, "n") for n in sorted(expected)]
    assert len(world.rows(other)) == 60


def a_schema_change_takes_effect_between_the_rows_of_every_partition(world: World) -> None:
    t, s = world.table("t"), world.stream
    for n in range(12):
        s.insert(t, **row(n))
    wide = wider(world, t, "extra")
    s.schema_change(wide)
    for n in range(12, 24):
        s.insert(wide, **row(n), extra="x")
    s.commit()
    s.schema_change(t)
    for n in range(24, 30):
        s.insert(t, **row(n))
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT * FROM {world.name(t)} ORDER BY id") == [(n, 0, "n") for n in range(30)]


def no_partition_goes_past_a_marker_that_is_not_executed(world: World) -> None:
    world.config = replace(world.config, schema_changes="stop")
    world.sink = world.harness.sink(world.config)
    t, s = world.table("t"), world.stream
    for n in range(12):
        s.insert(t, **row(n))
    wide = wider(world, t, "extra")
    s.schema_change(wide)
    for n in range(12):
        s.delete(wide, **row(n), extra=None)
    s.commit()
    error = world.failure()
    assert error.code == "SCHEMA_CHANGE"
    assert len(world.rows(t)) == 12
    world.harness.execute(error.hint)
    world.apply()
    assert world.rows(t) == []


def a_batch_half_applied_goes_on_where_each_partition_stood(world: World) -> None:
    t, s = made(world, "t"), world.stream
    world.harness.history("t")
    for n in range(1, 30):
        s.insert(t, **row(n))
    s.mark("truncate", t)
    for n in range(40, 60):
        s.insert(t, **row(n))
        s.update(t, **row(n, n))
    s.commit()
    for n in range(40, 60):
        s.update(t, **row(n, n + 1))
    s.commit()
    world.sink.open(take_over=True)
    with suppress(StopError):
        world.sink.write(Breaking(world.batch(1, 1), StopError("torn")))
    assert world.sink.open(take_over=False).next_seq == 1
    assert len(world.rows(t)) == 20
    world.apply()
    assert world.rows(t) == [(n, n + 1, "n") for n in range(40, 60)]
    history = world.harness.query(f'SELECT op, id, v FROM "{world.harness.schema}"."t_history"')
    assert len(history) == len(set(history))


def a_zombie_is_fenced_in_partitions_it_has_not_met(world: World) -> None:
    t, other, s = made(world, "t"), world.table("other"), world.stream
    for n in range(20):
        s.insert(t, **row(n, 1))
    s.commit()
    s.insert(other, **row(1))
    s.commit()
    for seq in (1, 2):
        zombie = world.harness.sink(world.config)
        zombie.open(take_over=True)
        world.sink = world.harness.sink(world.config)
        world.sink.open(take_over=True)
        try:
            zombie.write(world.batch(seq, seq))
        except FencedError:
            pass
        else:
            raise AssertionError("a zombie applied a batch")
    assert world.rows(t) == [(0, 0, "n")]
    world.apply()
    assert world.rows(t) == [(n, 1, "n") for n in range(20)]
    assert world.rows(other) == [(1, 0, "n")]


def of_two_sinks_of_one_epoch_one_is_fenced(world: World) -> None:
    t, s = made(world, "t"), world.stream
    for n in range(8):
        s.update(t, **row(0, n + 1))
        s.insert(t, **row(n + 1))
    s.commit()
    world.sink.open(take_over=True)
    other = world.harness.sink(world.config)
    other.open(take_over=False)
    with suppress(StopError):
        world.sink.write(Breaking(world.batch(1, 1), StopError("torn")))
    world.harness.execute(f"UPDATE {world.name(t)} SET v = 77 WHERE id = 0")
    try:
        other.write(world.batch(1, 1))
    except FencedError:
        pass
    else:
        raise AssertionError("rows were applied twice")
    assert (0, 77, "n") in world.rows(t)


def an_unknown_end_of_a_batch_is_decided_by_the_target(world: World) -> None:
    t, s = made(world, "t"), world.stream
    world.harness.history("t")
    for n in range(1, 5):
        s.insert(t, **row(n))
        s.update(t, **row(0, n))
        s.commit()
    world.sink = Forgetful(world.sink)
    world.apply(Limits(rows=1))
    assert world.rows(t) == [(0, 4, "n"), *[(n, 0, "n") for n in range(1, 5)]]
    history = world.harness.query(f'SELECT op, id, v FROM "{world.harness.schema}"."t_history"')
    assert len(history) == len(set(history))


# ---- the other consistency


def the_consistency_may_change_where_nothing_is_half_applied(world: World) -> None:
    t, s = made(world, "t"), world.stream
    key = world.config
    for n, config in enumerate((replace(key, consistency="transaction", connections=1), key), start=1):
        world.close()
        world.sink = world.harness.sink(config)
        s.insert(t, **row(n))
        s.mark("truncate", t)
        s.insert(t, **row(n + 10))
        s.commit()
        world.apply()
        assert world.rows(t) == [(n + 10, 0, "n")]


def half_applied_batches_keep_the_consistency(world: World) -> None:
    t, s = made(world, "t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    world.sink.open(take_over=True)
    with suppress(StopError):
        world.sink.write(Breaking(world.batch(1, 1), StopError("torn")))
    world.close()
    other = world.harness.sink(replace(world.config, consistency="transaction", connections=1))
    try:
        other.open(take_over=True)
    except StopError as error:
        assert error.code == "CONSISTENCY"
    else:
        raise AssertionError("parts of source transactions were taken for whole ones")
    world.apply()
    assert other.open(take_over=True).next_seq == 2


_NEED_WHOLE_TRANSACTIONS = (
    conformance.tables_without_key_keep_duplicates_and_lose_exactly_one,
    conformance.deleting_a_row_that_is_not_there_stops_a_table_without_key,
    conformance.odd_names_are_copied_as_plain_names,
    conformance.unique_values_may_change_places_inside_a_batch,
    conformance.a_row_never_overwrites_another_through_a_secondary_unique_key,
    conformance.what_a_deleted_parent_takes_along_goes_and_later_rows_stay,
    conformance.children_follow_a_parents_key,
    conformance.a_batch_that_breaks_off_leaves_nothing,
    conformance.an_unknown_commit_is_decided_by_the_target,
)
KEY_CASES: list[Callable[[World], None]] = [
    *(case for case in conformance.CASES if case not in _NEED_WHOLE_TRANSACTIONS),
    a_table_without_key_is_refused_and_not_made,
    a_secondary_unique_key_is_refused_until_it_is_gone,
    a_unique_key_made_meanwhile_is_refused_when_it_is_met,
    foreign_keys_of_a_table_and_to_it_are_refused,
    actions_that_the_source_does_not_log_are_refused,
    a_key_whose_equal_values_differ_in_their_bytes_is_refused,
    a_truncate_waits_for_every_partition_and_happens_once,
    a_schema_change_takes_effect_between_the_rows_of_every_partition,
    no_partition_goes_past_a_marker_that_is_not_executed,
    a_batch_half_applied_goes_on_where_each_partition_stood,
    a_zombie_is_fenced_in_partitions_it_has_not_met,
    of_two_sinks_of_one_epoch_one_is_fenced,
    an_unknown_end_of_a_batch_is_decided_by_the_target,
    the_consistency_may_change_where_nothing_is_half_applied,
    half_applied_batches_keep_the_consistency,
]
