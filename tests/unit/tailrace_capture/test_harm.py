"""Figures of what capture costs its source, against their steps."""

from __future__ import annotations

import pytest

from tailrace_capture.harm import Harm, HarmLimits, HarmWatch, Steps, level, troubles
from tailrace_capture.snapshot import LoadPlanner
from tailrace_schemas.errors import SourceUnavailableError
from tailrace_schemas.position import LsnPosition, Position

STEPS = Steps(10, 20, 30)
NONE = HarmLimits(Steps(), Steps(), None, None)


@pytest.mark.parametrize(
    ("value", "least", "reached"),
    [
        (None, False, ""), (9, False, ""), (10, False, "warn"), (29, False, "pause"), (30, False, "stop"),
        (31, True, ""), (30, True, "stop"), (0, True, "stop"),
    ],
)  # fmt: skip
def test_the_highest_step_that_is_reached_counts(value: float | None, least: bool, reached: str) -> None:
    assert level(value, STEPS, least=least) == reached


def test_a_low_figure_passes_its_steps_downwards() -> None:
    assert level(25, Steps(30, 20, 10), least=True) == "warn"
    assert level(10, Steps(30, 20, 10), least=True) == "stop"


def test_a_slot_that_the_server_is_about_to_give_up_is_told_without_any_limit_of_ours() -> None:
    near = Harm("s", 80, 19, 100, "extended")
    assert [(t.level, t.figure) for t in troubles(near, NONE, 0)] == [("warn", "max_slot_wal_keep_size")]
    assert [t.figure for t in troubles(Harm("s", 80, None, 100, "unreserved"), NONE, 0)] == ["max_slot_wal_keep_size"]
    assert troubles(Harm("s", 80, 21, 100, "extended"), NONE, 0) == []
    assert troubles(Harm("s", 80, None, None, "reserved"), NONE, 0) == []


class Measured:
    """What a source says, in turn; an error is raised."""

    def __init__(self, *figures: Harm | Exception) -> None:
        self._figures = list(figures)

    def harm(self, position: Position, source_ms: int) -> Harm:
        found = self._figures.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def watch(planner: LoadPlanner, limits: HarmLimits, *figures: Harm | Exception) -> HarmWatch:
    return HarmWatch(Measured(*figures), limits, planner, streaming=True)


def test_the_load_waits_between_the_pause_and_what_lies_below_it() -> None:
    planner = LoadPlanner(None)  # type: ignore[arg-type]
    limits = HarmLimits(Steps(10, 20, None), Steps(), None, None)
    figures = [Harm(wal_kept_bytes=count) for count in (25, 20, 19, 5)]
    looking = watch(planner, limits, *figures, SourceUnavailableError("gone"))
    paused = [planner.paused]
    for _ in range(5):
        looking.look(LsnPosition(1), 0)
        paused.append(planner.paused)
    assert paused == [True, True, True, False, False, False]  # first: nothing is known yet
    assert (looking.error, looking.shown["warnings"]) == (None, [])


def test_a_stop_says_what_is_safe_and_what_to_do() -> None:
    looking = watch(
        LoadPlanner(None),  # type: ignore[arg-type]
        HarmLimits(Steps(1, 2, 3), Steps(), None, None),
        Harm("s", 4_000_000, hint="SELECT pg_drop_replication_slot('s')"),
    )
    looking.look(LsnPosition(1), 0)
    assert looking.error is not None
    assert looking.error.code == "WAL_KEPT"
    assert looking.error.message == "slot s keeps 4.0 MB of WAL at the source"
    assert looking.error.detail.startswith("max_wal_kept.stop is reached; nothing is lost")
    assert "SELECT pg_drop_replication_slot('s')" in looking.error.hint
