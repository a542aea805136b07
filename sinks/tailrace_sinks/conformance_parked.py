"""What a database sink must do with rows that meet a unique value of the target while a table is loaded (see `parked`).

More cases of the conformance suite, for sinks of targets that have unique keys beside the row key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tailrace_schemas.errors import StopError
from tailrace_schemas.table import Column, TableSchema
from tailrace_sinks.batch import Limits
from tailrace_sinks.conformance import World, row
from tailrace_sinks.conformance_stream import Row, Stream, column

ONE = Limits(rows=1)


def loading(world: World, *rows: Row, extra: tuple[Column, ...] = ()) -> tuple[TableSchema, Stream]:
    """A table with a unique `name`, loaded so far with `rows`; its load goes on."""
    t, s = world.table("t", *extra), world.stream
    s.load(t, rows)
    s.chunk()
    world.apply()
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    return t, s


def both_times(world: World) -> tuple[TableSchema, Stream]:
    """Row 1 was read before it gave "a" away, row 2 after it got it."""
    t, s = loading(world, row(1, 1, "a"), row(9, 9, "z"))
    s.load(t, [row(2, 2, "a"), row(3, 3, "c")])
    s.chunk()
    world.apply()
    return t, s


def goes_on(world: World, *, consistent: bool = True) -> None:
    """Close the log transaction, apply it alone."""
    world.stream.commit(consistent=consistent)
    world.apply(ONE)


def parked_tables(world: World) -> list[str]:
    schema = "tailrace" if world.harness.engine == "postgresql" else world.harness.schema.removesuffix("_shop")
    ours = f"table_schema = '{schema}' AND table_name LIKE 'parked%'"
    return [
        str(name) for (name,) in world.harness.query(f"SELECT table_name FROM information_schema.tables WHERE {ours}")
    ]


def a_loaded_row_may_be_ahead_of_an_earlier_one(world: World) -> None:
    t, s = both_times(world)
    assert {r[0] for r in world.rows(t)} in ({1, 3, 9}, {2, 3, 9})
    s.update(t, **row(1, 11, "b"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "b"), (2, 2, "a"), (3, 3, "c"), (9, 9, "z")]
    assert parked_tables(world) == []


def a_change_may_meet_a_loaded_row_that_is_ahead(world: World) -> None:
    t, s = loading(world, row(1, 1, "a"), row(2, 2, "b"))
    s.update(t, **row(1, 11, "b"))
    goes_on(world, consistent=False)
    s.update(t, **row(2, 22, "c"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "b"), (2, 22, "c")]


def the_old_row_may_be_deleted(world: World) -> None:
    t, s = both_times(world)
    s.delete(t, **row(1, 1, "a"))
    goes_on(world)
    assert world.rows(t) == [(2, 2, "a"), (3, 3, "c"), (9, 9, "z")]


def the_parked_row_may_change(world: World) -> None:
    t, s = both_times(world)
    s.update(t, **row(2, 22, "d"))
    goes_on(world, consistent=False)
    s.update(t, **row(1, 11, "e"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "e"), (2, 22, "d"), (3, 3, "c"), (9, 9, "z")]


def both_rows_may_change_without_all_of_their_columns(world: World) -> None:
    t, s = both_times(world)
    for id_ in (1, 2):
        s.event(t, "u", None, row(id_, 10 * id_, None), unavailable=["name"])
    goes_on(world, consistent=False)
    s.event(t, "u", None, row(1, None, "e"), unavailable=["v"])
    goes_on(world)
    assert world.rows(t) == [(1, 10, "e"), (2, 20, "a"), (3, 3, "c"), (9, 9, "z")]


def both_rows_may_be_deleted(world: World) -> None:
    t, s = both_times(world)
    for id_ in (1, 2):
        s.delete(t, **row(id_, id_, "a"))
        goes_on(world, consistent=id_ == 2)
    assert world.rows(t) == [(3, 3, "c"), (9, 9, "z")]


def both_rows_may_get_other_keys(world: World) -> None:
    t, s = both_times(world)
    for id_ in (1, 2):
        s.rekey(t, row(id_, id_, "a"), row(id_ + 20, id_, "a"))
        goes_on(world, consistent=False)
    s.update(t, **row(21, 1, "e"))
    goes_on(world)
    assert world.rows(t) == [(3, 3, "c"), (9, 9, "z"), (21, 1, "e"), (22, 2, "a")]


def values_may_go_round_in_a_circle(world: World) -> None:
    t, s = loading(world, row(1, 1, "a"), row(2, 2, "b"), row(3, 3, "c"))
    for id_, name in ((1, "b"), (2, "c"), (3, "a")):
        s.update(t, **row(id_, 10 * id_, name))
        goes_on(world, consistent=id_ == 3)
    assert world.rows(t) == [(1, 10, "b"), (2, 20, "c"), (3, 30, "a")]
    assert parked_tables(world) == []


def null_meets_nothing(world: World) -> None:
    t, s = both_times(world)
    s.load(t, [row(4, 4, None), row(5, 5, None)])
    s.chunk()
    s.update(t, **row(1, 11, None))
    goes_on(world)
    expected = [(1, 11, None), (2, 2, "a"), (3, 3, "c"), (4, 4, None), (5, 5, None), (9, 9, "z")]
    assert world.rows(t) == expected


def parked_rows_outlive_the_process(world: World) -> None:
    t, s = both_times(world)
    world.close()
    world.sink = world.harness.sink(world.config)
    s.event(t, "u", None, row(2, 22, None), unavailable=["name"])
    s.update(t, **row(1, 11, "e"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "e"), (2, 22, "a"), (3, 3, "c"), (9, 9, "z")]
    assert parked_tables(world) == []


def a_process_that_comes_later_may_park_as_well(world: World) -> None:
    t, s = both_times(world)
    s.update(t, **row(1, 11, "e"))
    goes_on(world, consistent=False)
    world.close()
    world.sink = world.harness.sink(world.config)
    s.update(t, **row(3, 33, "z"))
    goes_on(world, consistent=False)
    s.update(t, **row(9, 99, "c"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "e"), (2, 2, "a"), (3, 33, "z"), (9, 99, "c")]
    assert parked_tables(world) == []


def a_batch_that_begins_again_finds_the_parked_rows_again(world: World) -> None:
    """Where a table has to be made first, and DDL commits: what the first attempt moved is parked once more."""
    t, s = both_times(world)
    s.update(t, **row(1, 11, "e"))
    s.insert(world.table("z"), **row(1))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "e"), (2, 2, "a"), (3, 3, "c"), (9, 9, "z")]
    assert parked_tables(world) == []


def truncate_empties_what_is_parked(world: World) -> None:
    emptied_by("truncate", world)


def reload_empties_what_is_parked(world: World) -> None:
    emptied_by("reload", world)


def emptied_by(kind: str, world: World) -> None:
    t, s = both_times(world)
    s.mark(kind, t)
    s.insert(t, **row(5, 5, "a"))
    goes_on(world, consistent=False)
    s.insert(t, **row(2, 2, "z"))
    goes_on(world)
    assert world.rows(t) == [(2, 2, "z"), (5, 5, "a")]
    assert parked_tables(world) == []


def a_table_that_is_stopped_holds_up_no_other(world: World) -> None:
    t, s = both_times(world)
    s.mark("stopped", t, code="X", message="m", remedy="r")
    s.insert(world.table("u"), **row(1))
    goes_on(world)
    assert world.rows(world.table("u")) == [(1, 0, "n")]
    assert parked_tables(world) == []
    s.mark("reload", t)
    s.commit(consistent=False)
    s.load(t, [row(1, 1, "b"), row(2, 2, "a")])
    s.chunk()
    goes_on(world)
    assert world.rows(t) == [(1, 1, "b"), (2, 2, "a")]


def a_row_that_stays_parked_is_rejected_when_all_is_loaded(world: World) -> None:
    t, s = both_times(world)
    s.insert(world.table("u"), **row(1))
    s.commit()
    error = world.failure()
    assert (error.code, error.table) == ("ROW_REJECTED", t.table)
    assert "mail" in error.detail
    assert "DROP" in error.hint
    assert "'a'" not in str(error)
    s.update(t, **row(1, 11, "b"))
    s.commit()
    assert world.failure(ONE).code == "ROW_REJECTED"
    world.apply()
    assert world.rows(t) == [(1, 11, "b"), (2, 2, "a"), (3, 3, "c"), (9, 9, "z")]


def a_column_may_be_added_while_rows_are_parked(world: World) -> None:
    t, s = both_times(world)
    new = world.table("t", column("extra"))
    s.schema_change(new, defaults={"extra": "7"})
    s.update(new, **row(1, 11, "e"), extra=8)
    goes_on(world)
    found = world.harness.query(f"SELECT id, v, name, extra FROM {world.name(t)} ORDER BY id")
    assert found == [(1, 11, "e", 8), (2, 2, "a", 7), (3, 3, "c", 7), (9, 9, "z", 7)]


def a_column_may_be_renamed_and_dropped_while_rows_are_parked(world: World) -> None:
    t, s = loading(world, {**row(1, 1, "a"), "old": 5}, extra=(column("old"),))
    s.load(t, [{**row(2, 2, "a"), "old": 6}])
    s.chunk()
    world.apply()
    new = world.table("t", column("new"))
    s.schema_change(new, renamed={"old": "new"})
    goes_on(world, consistent=False)
    s.event(new, "u", None, {**row(2, 22, None), "new": None}, unavailable=["name", "new"])
    goes_on(world, consistent=False)
    parked = world.harness.query(f"SELECT new FROM {world.name(t)}")
    assert parked in ([(5,)], [(6,)])
    narrow = world.table("t")
    s.schema_change(narrow)
    s.update(narrow, **row(1, 11, "e"))
    goes_on(world, consistent=False)
    s.schema_change(new, defaults={"new": "7"})
    goes_on(world)
    found = world.harness.query(f"SELECT id, v, name, new FROM {world.name(t)} ORDER BY id")
    assert found == [(1, 11, "e", 7), (2, 22, "a", 7)]


def rows_are_noted_once_however_they_waited(world: World) -> None:
    t, s = loading(world, row(1, 1, "a"), row(9, 9, "z"))
    world.harness.history("t")
    s.load(t, [row(2, 2, "a"), row(3, 3, "c")])
    s.chunk()
    s.update(t, **row(3, 33, "z"))
    s.commit(consistent=False)
    s.update(t, **row(1, 11, "e"))
    s.commit(consistent=False)
    s.update(t, **row(9, 99, "y"))
    s.commit()
    world.apply(ONE)
    assert world.rows(t) == [(1, 11, "e"), (2, 2, "a"), (3, 33, "z"), (9, 99, "y")]
    history = world.harness.query(f'SELECT op, id, v FROM "{world.harness.schema}"."t_history"')
    assert len(history) == len(set(history))


def exchange(stream: Stream, t: TableSchema, draw: Random, apply: Callable[[], None]) -> dict[int, str]:
    """Forty rows exchange their names 120 times while they are loaded in four chunks, each read when the source is
    twenty exchanges ahead of the stream. Nothing is consistent yet. Key → name at the end."""
    times, pairs = [{key: f"n{key}" for key in range(40)}], []
    for _ in range(120):
        a, b = draw.sample(sorted(times[-1]), 2)
        pairs.append((a, b))
        times.append(times[-1] | {a: times[-1][b], b: times[-1][a]})
    seen = {chunk: 25 + 30 * chunk for chunk in range(4)}
    for now, pair in enumerate(pairs, start=1):
        for chunk, then in seen.items():
            if now == then - 20:
                stream.load(t, [row(key, then, times[then][key]) for key in times[then] if key % 4 == chunk])
                stream.chunk()
        for key in pair:
            if now > seen[key % 4]:
                stream.update(t, **row(key, 1000 + now, times[now][key]))
        stream.commit(consistent=False)
        apply()
    return times[-1]


def any_order_of_chunks_and_changes_ends_right(world: World) -> None:
    draw = Random("parked")  # noqa: S311 (not a secret)
    t, s = loading(world, row(1000, 0, "other"))
    world.harness.history("t")
    held = []

    def apply() -> None:
        if draw.random() < 0.3:
            world.apply(Limits(rows=draw.choice((1, 5, 50))))
            held.append(len(parked_tables(world)))

    names = exchange(s, t, draw, apply)
    goes_on(world)
    assert 1 in held
    assert [(r[0], r[2]) for r in world.rows(t)] == [*sorted(names.items()), (1000, "other")]
    assert parked_tables(world) == []
    history = world.harness.query(f'SELECT op, id, v FROM "{world.harness.schema}"."t_history"')
    assert len(history) == len(set(history))


def lanes_do_not_take_over_while_rows_are_parked(world: World) -> None:
    t, s = both_times(world)
    world.close()
    lanes = world.harness.sink(replace(world.config, consistency="key"))
    try:
        lanes.open(take_over=True)
    except StopError as error:
        assert error.code == "CONSISTENCY"
    else:
        raise AssertionError("rows that are parked were left behind")
    s.update(t, **row(1, 11, "b"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "b"), (2, 2, "a"), (3, 3, "c"), (9, 9, "z")]


CASES: list[Callable[[World], None]] = [
    a_loaded_row_may_be_ahead_of_an_earlier_one,
    a_change_may_meet_a_loaded_row_that_is_ahead,
    the_old_row_may_be_deleted,
    the_parked_row_may_change,
    both_rows_may_change_without_all_of_their_columns,
    both_rows_may_be_deleted,
    both_rows_may_get_other_keys,
    values_may_go_round_in_a_circle,
    null_meets_nothing,
    parked_rows_outlive_the_process,
    a_process_that_comes_later_may_park_as_well,
    a_batch_that_begins_again_finds_the_parked_rows_again,
    truncate_empties_what_is_parked,
    reload_empties_what_is_parked,
    a_table_that_is_stopped_holds_up_no_other,
    a_row_that_stays_parked_is_rejected_when_all_is_loaded,
    a_column_may_be_added_while_rows_are_parked,
    a_column_may_be_renamed_and_dropped_while_rows_are_parked,
    rows_are_noted_once_however_they_waited,
    any_order_of_chunks_and_changes_ends_right,
    lanes_do_not_take_over_while_rows_are_parked,
]
