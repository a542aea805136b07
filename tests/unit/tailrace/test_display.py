"""What a run shows: bars and a line on a terminal, plain lines elsewhere, objects with --json."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from tailrace.display import JsonDisplay, PlainDisplay, Rate, TerminalDisplay, size_text, status_line


def status(rows: int = 50, applied: int = 1234) -> dict[str, Any]:
    table = {"rows_estimate": 100, "rows_loaded": rows, "error": None}
    return {
        "state": "running",
        "tables": [
            {"name": "public.a", "state": "Full load", **table},
            {"name": "public.b", "state": "Table completed", **table},
            {"name": "public.c", "state": "Table error", **table},
        ],
        "sinks": [
            {
                "name": "replica",
                "rows_loaded": 7000,
                "applied": {"inserts": applied, "updates": 0, "deletes": 0, "ddls": 9},
                "lag": {"source_to_log_seconds": 0.25, "log_to_target_seconds": 0.5, "bytes": 0},
            }
        ],
        "log": {"bytes": 12_345_678},
    }


def test_the_status_line_says_load_changes_lag_and_trouble() -> None:
    assert status_line(status(), {}, 0.0) == (
        "running · loading 1 of 3 tables, 150 rows · replica: 7,000 rows loaded, 1,234 changes, 0/s, lag 0.8 s · log 12.3 MB"
        " · 1 tables stopped"
    )


def test_a_rate_is_taken_over_time_and_survives_a_restart() -> None:
    rate = Rate()
    assert rate.of(0, 0.0) == 0
    assert rate.of(500, 1.0) == 500
    assert rate.of(600, 1.1) == 500
    assert rate.of(10, 2.0) == 500
    assert rate.of(110, 3.0) == 100


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e9, "2.5 GB"), (7e15, "7000.0 TB")]
)
def test_sizes_are_readable(count: float, text: str) -> None:
    assert size_text(count) == text


def test_a_terminal_shows_a_bar_for_each_table_in_load() -> None:
    out = io.StringIO()
    shown = TerminalDisplay(Console(file=out, force_terminal=True, width=200, color_system=None))
    shown.show(status(rows=50))
    shown.log_line("a line of a child")
    shown.say("capture was killed")
    shown.show(status(rows=150))
    shown.close()
    text = out.getvalue()
    assert "50/100" in text
    assert "150/150" in text  # more rows than the server had guessed
    assert "a line of a child" in text
    assert "capture was killed" in text


def test_plain_output_repeats_nothing_within_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainDisplay()
    shown.show(status())
    shown.show(status(applied=2000))
    shown.say("capture was killed")
    shown.log_line("a line of a child")
    captured = capsys.readouterr()
    assert [line.split(" · ")[0] for line in captured.out.splitlines()] == ["running", "capture was killed"]
    assert captured.err == "a line of a child\n"


def test_json_output_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = JsonDisplay()
    shown.say("capture was killed", process="capture")
    shown.show(status())
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first == {"event": "note", "sentence": "capture was killed", "process": "capture"}
    assert (second["event"], second["state"]) == ("status", "running")
