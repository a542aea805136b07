"""The sinks' conformance suite against real servers."""

from collections.abc import Callable

import pytest
from fix_sink import harness
from fix_versions import NEWEST, TARGETS, each

from tailrace_sinks.conformance import CASES, World
from tailrace_sinks.conformance_key import KEY_CASES, PARTITIONS
from tailrace_sinks.conformance_letters import LETTER_CASES, WHOLE_LETTER_CASES
from tailrace_sinks.conformance_replay import REPLAY_CASES, WHOLE_REPLAY_CASES

pytestmark = pytest.mark.servers
QUICK = ("POSTGRES14", *NEWEST)


# The hard cases of a target that functions of the suite prove by themselves.
case = pytest.mark.case
PROVES = {
    "a_row_never_overwrites_another_through_a_secondary_unique_key": case("B3", verdict="STOP(ROW_REJECTED)"),
    "a_target_table_that_lacks_a_column_stops_with_the_statement": case("K9", verdict="STOP(TARGET_MISFIT)"),
    "an_event_that_cannot_be_read_is_set_aside": case("K7", verdict="DLQ"),
}


def _marks(function: Callable[[World], None]) -> list[pytest.MarkDecorator]:
    return [PROVES[function.__name__]] if function.__name__ in PROVES else []


def _params() -> list[object]:
    return [pytest.param(function, marks=_marks(function), id=function.__name__) for function in CASES]


@pytest.mark.parametrize("case", _params())
@pytest.mark.parametrize("name", each(TARGETS, QUICK))
def test_sink_conforms(name: str, case: Callable[[World], None]) -> None:
    with harness(name) as target:
        world = World(target)
        try:
            case(world)
        finally:
            world.close()


@pytest.mark.parametrize("case", KEY_CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize(
    ("name", "connections"), [*((name, 4) for name in QUICK), ("POSTGRES18", 1), ("MARIADB118", 1)]
)
def test_sink_conforms_under_consistency_key(name: str, connections: int, case: Callable[[World], None]) -> None:
    with harness(name) as target:
        world = World(target, partitions=PARTITIONS, connections=connections)
        try:
            case(world)
        finally:
            world.close()


@pytest.mark.parametrize(
    ("connections", "case"),
    [
        pytest.param(connections, function, marks=_marks(function), id=f"{connections}-{function.__name__}")
        for connections, functions in ((0, (*LETTER_CASES, *WHOLE_LETTER_CASES)), (4, LETTER_CASES))
        for function in functions
    ],
)
@pytest.mark.parametrize("name", ["POSTGRES18", "MARIADB118", "MYSQL80"])
def test_sink_sets_aside(name: str, connections: int, case: Callable[[World], None]) -> None:
    with harness(name) as target:
        world = World(target, partitions=PARTITIONS, connections=connections)
        try:
            case(world)
        finally:
            world.close()


def _replays() -> list[object]:
    """Quick: every case once with each family of targets, and one with several connections."""
    out: list[object] = []
    for name in ("POSTGRES18", "MARIADB118", "MYSQL80"):
        for connections, cases in ((0, (*REPLAY_CASES, *WHOLE_REPLAY_CASES)), (4, REPLAY_CASES)):
            for function in cases:
                quick = name != "MYSQL80" and (not connections or function is REPLAY_CASES[0])
                marks = [] if quick else [pytest.mark.slow]
                out.append(pytest.param(name, connections, function, marks=marks, id=_id(name, connections, function)))
    return out


def _id(name: str, connections: int, function: Callable[[World], None]) -> str:
    return f"{name}-{connections}-{function.__name__}"


@pytest.mark.parametrize(("name", "connections", "case"), _replays())
def test_sink_replays(name: str, connections: int, case: Callable[[World], None]) -> None:
    with harness(name) as target:
        world = World(target, partitions=PARTITIONS, connections=connections)
        try:
            case(world)
        finally:
            world.close()
