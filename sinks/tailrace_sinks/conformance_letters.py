"""What every database sink must do under `on_row_error: dead_letter`, with either consistency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tailrace_log.log import DeadLetter
from tailrace_schemas.errors import LogUnavailableError
from tailrace_schemas.table import TableSchema
from tailrace_schemas.wire import header
from tailrace_sinks.conformance import World, row
from tailrace_sinks.conformance_stream import Row, Stream

LONG = "secret" * 20  # the column holds 60 characters


def setting_aside(world: World) -> None:
    again(world, on_row_error="dead_letter")


def again(world: World, on_row_error: str) -> None:
    """Another process of the sink."""
    world.close()
    world.config = replace(world.config, on_row_error=on_row_error)  # type: ignore[arg-type]
    world.sink = world.harness.sink(world.config)


def letters(world: World) -> list[DeadLetter]:
    return world.log.reader().dead_letters()


def partial(id_: int, v: int) -> Row:
    return {"id": id_, "v": v, "name": None}


def an_event_that_does_not_fit_is_set_aside_whole_and_the_others_go_on(world: World) -> None:
    setting_aside(world)
    t, s = world.table("t"), world.stream
    for n in range(200):
        s.insert(t, **row(n, n, LONG if n in (3, 77, 78) else "n"))
    s.commit()
    world.apply()
    assert world.rows(t) == [(n, n, "n") for n in range(200) if n not in (3, 77, 78)]
    shown = world.status.to_json()
    assert (shown["set_aside"], shown["stale_keys"]) == (3, 3)
    assert world.status.total.inserts == 197
    found = letters(world)
    assert len(found) == 3
    for letter in found:
        assert (letter.sink, letter.target, letter.seq, letter.code) == ("replica", str(t.table), 0, "ROW_REJECTED")
        assert (letter.topic, letter.position) == (s.encoder(t).topic, world.log.records[0].position)
        assert "secret" not in letter.reason
        assert "name" in letter.reason
        assert LONG.encode() in (letter.value or b"")
    ids = [s.encoder(t).key({"id": n}) for n in (3, 77, 78)]
    assert sorted(letter.key or b"" for letter in found) == sorted(key or b"" for key in ids)


def a_later_event_with_the_whole_row_makes_it_right(world: World) -> None:
    setting_aside(world)
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.insert(t, **row(2, 0, LONG))
    s.commit()
    world.apply()
    s.update(t, **row(2, 5, "fits"))
    s.event(t, "u", None, partial(2, 6), unavailable=["name"])
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 0, "n"), (2, 6, "fits")]
    assert len(letters(world)) == 1


def an_event_that_would_mix_two_states_follows_the_one_set_aside(world: World) -> None:
    setting_aside(world)
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1, 1, "old"))
    s.insert(t, **row(2, 1, "old"))
    s.commit()
    world.apply()
    s.update(t, **row(1, 2, LONG))
    s.commit()
    world.apply()
    again(world, "dead_letter")
    s.event(t, "u", None, partial(1, 3), unavailable=["name"])
    s.event(t, "u", None, partial(2, 3), unavailable=["name"])
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 1, "old"), (2, 3, "old")]
    assert [letter.code for letter in letters(world)] == ["ROW_REJECTED", "STALE_KEY"]
    assert world.status.stale_keys == 1
    s.update(t, **row(1, 4, "new"))
    s.event(t, "u", None, partial(1, 5), unavailable=["name"])
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 5, "new"), (2, 3, "old")]
    assert (world.status.set_aside, world.status.stale_keys) == (2, 0)
    assert world.sink.open(take_over=True).stale_keys == 0


def a_partial_event_refused_in_the_batch_of_its_row_is_found(world: World) -> None:
    t, s = made(world)
    world.harness.execute(f"ALTER TABLE {world.name(t)} ADD CONSTRAINT few CHECK (v < 10)")
    setting_aside(world)
    s.insert(t, **row(1, 1, "kept"))
    s.event(t, "u", None, partial(1, 50), unavailable=["name"])
    s.insert(t, **row(2, 2))
    s.commit()
    world.apply()
    assert world.rows(t) == [(0, 0, "n"), (1, 1, "kept"), (2, 2, "n")]
    assert len(letters(world)) == 1


def made(world: World) -> tuple[TableSchema, Stream]:
    """A table that the sink has made, with row 0."""
    t = world.table("t")
    world.stream.insert(t, **row(0))
    world.stream.commit()
    world.apply()
    return t, world.stream


def a_deleted_row_is_gone_whatever_was_set_aside(world: World) -> None:
    t, s = made(world)
    setting_aside(world)
    s.update(t, **row(0, 1, LONG))
    s.commit()
    world.apply()
    s.delete(t, **row(0))
    s.rekey(t, row(5), row(6, 0, LONG))
    s.commit()
    world.apply()
    assert world.rows(t) == []
    assert len(letters(world)) == 2
    assert world.sink.open(take_over=True).stale_keys == 1


def an_emptied_table_has_no_stale_rows(world: World) -> None:
    t, s = made(world)
    setting_aside(world)
    s.update(t, **row(0, 1, LONG))
    s.mark("truncate", t)
    s.insert(t, **row(0))
    s.commit()
    s.event(t, "u", None, partial(0, 9), unavailable=["name"])
    s.commit()
    world.apply()
    assert world.rows(t) == [(0, 9, "n")]
    assert len(letters(world)) == 1


def an_event_that_cannot_be_read_is_set_aside(world: World) -> None:
    t, s = made(world)
    setting_aside(world)
    s.insert(t, **row(1))
    torn = header(s.encoder(t).value_id) + b"\xff\xff\xff"
    s.buffer(t).append(s.encoder(t).key(row(2)), torn)
    s.insert(t, **row(3))
    s.commit()
    world.apply()
    assert [r[0] for r in world.rows(t)] == [0, 1, 3]
    assert [(letter.code, letter.value) for letter in letters(world)] == [("DECODE", torn)]


def a_sink_that_stops_again_minds_what_was_set_aside_before(world: World) -> None:
    t, s = made(world)
    setting_aside(world)
    s.update(t, **row(0, 1, LONG))
    s.commit()
    world.apply()
    again(world, "stop")
    s.event(t, "u", None, partial(0, 9), unavailable=["name"])
    s.commit()
    assert world.failure().code == "STALE_KEY"
    s.update(t, **row(0, 2, "whole"))
    s.commit()
    again(world, "dead_letter")
    world.apply()
    assert world.rows(t) == [(0, 2, "whole")]


def a_letter_that_the_log_could_not_take_is_brought_later(world: World) -> None:
    t, s = made(world)
    setting_aside(world)
    s.update(t, **row(0, 1, LONG))
    s.commit()
    reader, fails = world.log.reader, [True, True]

    def failing() -> object:
        made_reader = reader()
        take = made_reader.set_aside

        def set_aside(some: list[DeadLetter]) -> None:
            if fails:
                fails.pop()
                raise LogUnavailableError("not now")
            take(some)

        made_reader.set_aside = set_aside  # type: ignore[assignment,method-assign]
        return made_reader

    world.log.reader = failing  # type: ignore[method-assign,assignment]
    world.apply()
    assert fails == []
    again(world, "dead_letter")
    world.apply()
    world.log.reader = reader  # type: ignore[method-assign]
    assert len(letters(world)) == 1
    assert world.sink.open(take_over=True).letters == ()


LETTER_CASES: list[Callable[[World], None]] = [
    an_event_that_does_not_fit_is_set_aside_whole_and_the_others_go_on,
    a_later_event_with_the_whole_row_makes_it_right,
    an_event_that_would_mix_two_states_follows_the_one_set_aside,
    a_partial_event_refused_in_the_batch_of_its_row_is_found,
    a_deleted_row_is_gone_whatever_was_set_aside,
    an_emptied_table_has_no_stale_rows,
    an_event_that_cannot_be_read_is_set_aside,
    a_sink_that_stops_again_minds_what_was_set_aside_before,
    a_letter_that_the_log_could_not_take_is_brought_later,
]


# ---- consistency transaction only


def unique_values_still_change_places_beside_an_event_set_aside(world: World) -> None:
    t, s = world.table("t"), world.stream
    for n in range(1, 5):
        s.insert(t, **row(n, n, f"mail{n}"))
    s.commit()
    world.apply()
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    setting_aside(world)
    s.update(t, **row(1, 1, "swap"))
    s.update(t, **row(2, 2, "mail1"))
    s.update(t, **row(1, 1, "mail2"))
    s.update(t, **row(3, 3, LONG))
    s.commit()
    world.apply()
    assert world.rows(t) == [(1, 1, "mail2"), (2, 2, "mail1"), (3, 3, "mail3"), (4, 4, "mail4")]
    assert len(letters(world)) == 1


def another_rows_unique_value_stops_the_sink(world: World) -> None:
    t, s = made(world)
    world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
    setting_aside(world)
    s.insert(t, **row(1))
    s.commit()
    assert world.failure().code == "ROW_REJECTED"
    assert letters(world) == []


def a_table_without_key_stops_the_sink(world: World) -> None:
    setting_aside(world)
    t, s = world.table("t", key=()), world.stream
    s.insert(t, **row(1, 1, LONG))
    s.commit()
    assert world.failure().code == "ROW_REJECTED"
    assert letters(world) == []


WHOLE_LETTER_CASES: list[Callable[[World], None]] = [
    unique_values_still_change_places_beside_an_event_set_aside,
    another_rows_unique_value_stops_the_sink,
    a_table_without_key_stops_the_sink,
]
