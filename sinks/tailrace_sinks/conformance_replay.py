"""What every database sink must do when dead letters are applied once more, with either consistency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from tailrace_schemas.errors import FencedError
from tailrace_schemas.table import ForeignKey, TableSchema
from tailrace_sinks.conformance import World, family, row
from tailrace_sinks.conformance_letters import again, letters, made, partial, setting_aside
from tailrace_sinks.conformance_stream import Stream, column
from tailrace_sinks.letters import LetterId
from tailrace_sinks.replay import KeepsLetters
from tailrace_sinks.service import Schemas


def keeper(world: World) -> KeepsLetters:
    """Another process, beside the sink that the world has open."""
    return cast("KeepsLetters", world.harness.sink(world.config))


def replayed(world: World, only: Callable[[LetterId], bool] = lambda _: True) -> list[str]:
    """Why each letter did not go, in the order of the log; empty for those that did."""
    events = {LetterId(one.topic, one.partition, one.offset): one.value for one in letters(world)}
    wanted = {id_: event for id_, event in events.items() if only(id_)}
    return [verdict.why for verdict in keeper(world).replay(wanted, Schemas(world.log))]


def states(world: World) -> list[str]:
    return [kept.state for kept in keeper(world).kept_letters()]


def small_values_only(world: World) -> tuple[TableSchema, Stream]:
    """A table with row 0 that refuses v from 100 on."""
    t, s = made(world)
    world.harness.execute(f"ALTER TABLE {world.name(t)} ADD CONSTRAINT few CHECK (v < 100)")
    setting_aside(world)
    return t, s


def takes_all(world: World, t: TableSchema) -> None:
    world.harness.execute(f"ALTER TABLE {world.name(t)} DROP CONSTRAINT few")


def letters_go_once_in_the_order_of_their_key(world: World) -> None:
    t, s = small_values_only(world)
    s.update(t, **row(0, 500, "whole"))
    s.commit()
    world.apply()
    s.event(t, "u", None, partial(0, 501), unavailable=["name"])
    s.insert(t, **row(1, 600))
    s.insert(t, **row(2, 6))
    s.commit()
    world.apply()
    assert world.rows(t) == [(0, 0, "n"), (2, 6, "n")]
    assert states(world) == ["waiting"] * 3
    takes_all(world, t)
    assert replayed(world) == ["", "", ""]
    assert world.rows(t) == [(0, 501, "whole"), (1, 600, "n"), (2, 6, "n")]
    assert states(world) == ["replayed"] * 3
    s.event(t, "u", None, partial(0, 7), unavailable=["name"])
    s.commit()
    world.apply()
    assert replayed(world) == ["it was replayed before"] * 3
    assert world.rows(t) == [(0, 7, "whole"), (1, 600, "n"), (2, 6, "n")]
    assert (len(letters(world)), world.status.stale_keys) == (3, 0)


def a_letter_never_goes_over_a_newer_row(world: World) -> None:
    t, s = small_values_only(world)
    s.update(t, **row(0, 500, "older"))
    s.insert(t, **row(1, 500))
    s.commit()
    world.apply()
    s.update(t, **row(0, 5, "newer"))
    s.delete(t, **row(1, 500))
    s.commit()
    world.apply()
    takes_all(world, t)
    assert states(world) == ["superseded"] * 2
    assert all(why.startswith("superseded") for why in replayed(world))
    assert world.rows(t) == [(0, 5, "newer")]


def a_letter_before_a_whole_event_of_its_batch_does_not_wait(world: World) -> None:
    t, s = small_values_only(world)
    s.update(t, **row(0, 500, "first"))
    s.commit()
    s.update(t, **row(0, 5, "second"))
    s.commit()
    s.event(t, "u", None, partial(0, 600), unavailable=["name"])
    s.commit()
    for seq in (1, 2, 3):  # apart: in one batch only the last state is tried
        world.run(lambda record, seq=seq: record.seq >= seq)  # type: ignore[misc]
    takes_all(world, t)
    replayed(world)
    assert world.rows(t) == [(0, 600, "second")]


def a_letter_of_changed_columns_alone_wants_the_earlier_ones_first(world: World) -> None:
    t, s = small_values_only(world)
    s.update(t, **row(0, 500, "whole"))
    s.commit()
    world.apply()
    s.event(t, "u", None, partial(0, 501), unavailable=["name"])
    s.commit()
    world.apply()
    takes_all(world, t)
    first, second = (LetterId(one.topic, one.partition, one.offset) for one in letters(world))
    (why,) = replayed(world, lambda id_: id_ == second)
    assert f"{first} of the same row comes first" in why
    assert world.rows(t) == [(0, 0, "n")]
    assert replayed(world, lambda id_: id_ == first) == [""]
    assert world.rows(t) == [(0, 500, "whole")]
    assert keeper(world).discard({first, second}) == 1
    assert states(world) == ["replayed", "discarded"]


def a_newer_whole_letter_may_go_alone_and_ends_those_before(world: World) -> None:
    t, s = small_values_only(world)
    for v in (500, 600):
        s.update(t, **row(0, v, "whole"))
        s.commit()
        world.apply()
    takes_all(world, t)
    last = letters(world)[-1]
    assert replayed(world, lambda id_: id_.offset == last.offset) == [""]
    assert world.rows(t) == [(0, 600, "whole")]
    assert states(world) == ["superseded", "replayed"]


def a_letter_that_the_target_still_refuses_stays_and_the_others_go(world: World) -> None:
    t, s = small_values_only(world)
    s.insert(t, **row(1, 500))
    s.insert(t, **row(2, 150))
    s.commit()
    world.apply()
    takes_all(world, t)
    world.harness.execute(f"ALTER TABLE {world.name(t)} ADD CONSTRAINT few CHECK (v < 200)")
    told = replayed(world)
    assert sorted(why[:12] for why in told) == ["", "ROW_REJECTED"]
    assert world.rows(t) == [(0, 0, "n"), (2, 150, "n")]
    assert sorted(states(world)) == ["replayed", "waiting"]
    s.update(t, **row(1, 1))
    s.commit()
    world.apply()
    assert world.rows(t) == [(0, 0, "n"), (1, 1, "n"), (2, 150, "n")]


def a_sink_that_runs_meanwhile_is_fenced_and_minds_what_was_replayed(world: World) -> None:
    t, s = small_values_only(world)
    s.update(t, **row(0, 500, "whole"))
    s.commit()
    world.apply()
    running = world.sink
    running.open(take_over=False)
    takes_all(world, t)
    assert replayed(world) == [""]
    s.event(t, "u", None, partial(0, 501), unavailable=["name"])
    s.commit()
    try:
        running.write(world.batch(2, 2))
    except FencedError:
        assert world.rows(t) == [(0, 500, "whole")]
    else:
        raise AssertionError("a sink that does not know of the replay went on")
    world.apply()
    assert world.rows(t) == [(0, 501, "whole")]
    assert len(letters(world)) == 1


def a_letter_of_other_columns_stays(world: World) -> None:
    t, s = small_values_only(world)
    s.insert(t, **row(1, 500))
    s.commit()
    world.apply()
    wider = world.table("t", column("more"))
    s.schema_change(wider)
    s.insert(wider, **row(2), more=1)
    s.commit()
    world.apply()
    takes_all(world, t)
    (why,) = replayed(world)
    assert "columns have changed" in why
    assert [found[0] for found in world.rows(t)] == [0, 2]


def more_letters_than_the_limit_stop_the_sink(world: World) -> None:
    t, s = small_values_only(world)
    world.config = replace(world.config, max_dead_letters=2)
    again(world, "dead_letter")
    s.insert(t, **row(1, 500))
    s.insert(t, **row(2, 500))
    s.commit()
    world.apply()
    s.insert(t, **row(3, 500))
    s.insert(t, **row(4, 4))
    s.commit()
    stopped = world.failure()
    assert (stopped.code, "max_dead_letters: 2" in stopped.detail) == ("DEAD_LETTERS", True)
    assert (3, 500, "n") not in world.rows(t)
    assert len(letters(world)) == 2
    kept = keeper(world).kept_letters()
    assert keeper(world).discard({letter.id for letter in kept}) == 2
    world.apply()
    assert world.rows(t) == [(0, 0, "n"), (4, 4, "n")]
    assert sorted(states(world)) == ["discarded", "discarded", "waiting"]


def a_share_of_letters_stops_the_sink(world: World) -> None:
    t, s = small_values_only(world)
    world.config = replace(world.config, max_dead_letter_share=0.01)
    again(world, "dead_letter")
    for n in range(1, 60):
        s.insert(t, **row(n, 500 if n % 5 == 0 else 1))
    s.commit()
    assert world.failure().code == "DEAD_LETTERS"
    assert world.rows(t) == [(0, 0, "n")]


REPLAY_CASES: list[Callable[[World], None]] = [
    letters_go_once_in_the_order_of_their_key,
    a_letter_never_goes_over_a_newer_row,
    a_letter_before_a_whole_event_of_its_batch_does_not_wait,
    a_letter_of_changed_columns_alone_wants_the_earlier_ones_first,
    a_newer_whole_letter_may_go_alone_and_ends_those_before,
    a_letter_that_the_target_still_refuses_stays_and_the_others_go,
    a_sink_that_runs_meanwhile_is_fenced_and_minds_what_was_replayed,
    a_letter_of_other_columns_stays,
    more_letters_than_the_limit_stop_the_sink,
]


# ---- consistency transaction only


def a_letter_of_a_table_under_foreign_key_actions_stays(world: World) -> None:
    """The parent may have gone since, and the source would have taken the child with it without an event."""
    world.engine = "mariadb"
    parent = world.table("parent")
    child = world.table("t", foreign_keys=(ForeignKey("c", ("v",), parent.table, ("id",), "CASCADE", "CASCADE"),))
    s = world.stream
    s.insert(parent, **row(1))
    s.insert(child, **row(0))
    s.commit()
    world.apply()
    world.harness.execute(f"ALTER TABLE {world.name(child)} ADD CONSTRAINT few CHECK (v < 100)")
    setting_aside(world)
    s.insert(child, **row(1, 500))
    s.commit()
    world.apply()
    takes_all(world, child)
    (why,) = replayed(world)
    assert "foreign-key actions" in why
    assert world.rows(child) == [(0, 0, "n")]


def a_whole_event_applied_one_by_one_ends_the_waiting(world: World) -> None:
    parent, child, _ = family(world)
    s = world.stream
    world.harness.execute(f"ALTER TABLE {world.name(child)} ADD CONSTRAINT few CHECK (id < 100 OR v < 100)")
    setting_aside(world)
    s.insert(child, **row(150, 500))
    s.commit()
    world.apply()
    assert world.status.stale_keys == 1
    s.insert(child, **row(150, 2))
    s.delete(parent, **row(1))
    s.commit()
    world.apply()
    assert world.rows(child) == [(12, 2, "n"), (22, 2, "n"), (150, 2, "n")]
    assert world.status.stale_keys == 0
    assert states(world) == ["superseded"]


def a_letter_whose_unique_value_another_row_has_stays(world: World) -> None:
    t, s = small_values_only(world)
    s.insert(t, **row(1, 500, "n"))
    s.commit()
    world.apply()
    takes_all(world, t)
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    assert replayed(world) == ["another row of the target has its unique value"]
    assert world.rows(t) == [(0, 0, "n")]


WHOLE_REPLAY_CASES: list[Callable[[World], None]] = [
    a_share_of_letters_stops_the_sink,
    a_letter_of_a_table_under_foreign_key_actions_stays,
    a_whole_event_applied_one_by_one_ends_the_waiting,
    a_letter_whose_unique_value_another_row_has_stays,
]
