"""Errors end here: printed by name, with the documented exit code, and never with a traceback."""

from pathlib import Path

import pytest

from tailrace.boundary import error_json, guarded, reporter
from tailrace_schemas.errors import (
    ConfigError,
    Finding,
    PositionLostError,
    PreflightError,
    SourceUnavailableError,
    StopError,
    TailraceError,
)
from tailrace_schemas.table import TableId


def ending(error: BaseException, as_json: bool = False, folder: Path | None = None) -> int:
    def work() -> int:
        raise error

    return guarded(work, reporter(as_json), lambda: folder)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (PreflightError([Finding("error", "A", "b", "c")]), 3),
        (PositionLostError("x"), 5),
        (StopError("x"), 1),
        (SourceUnavailableError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("secret row"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert ending(error) == code


def test_name_message_detail_and_hint_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ending(StopError("cannot go on", code="WHY", detail="two\nlines", hint="do this", table=TableId("a", "b")))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "WHY [a.b]: cannot go on\n  detail: two\n          lines\n  hint: do this\n"


def test_long_hints_are_not_wrapped_so_that_they_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    statement = "ALTER TABLE " + ", ".join(f"column_{n}" for n in range(60))
    ending(StopError("x", hint=statement))
    assert f"hint: {statement}\n" in capsys.readouterr().err


def test_every_finding_is_printed_errors_first(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [Finding("warning", "W", "careful"), Finding("error", "E", "no", "GRANT x", TableId("s", "t"))]
    ending(PreflightError(findings))
    assert capsys.readouterr().err.splitlines() == [
        "error E [s.t]: no",
        "    GRANT x",
        "warning W: careful",
        "PREFLIGHT: 1 preflight findings of level error",
    ]


def test_with_json_the_error_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    ending(StopError("cannot", code="WHY", detail="because", hint="do"), as_json=True)
    assert capsys.readouterr().out == '{"error": {"code": "WHY", "message": "cannot: because", "remedy": "do"}}\n'


def test_a_bug_shows_no_traceback_and_keeps_it_in_the_state_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ending(ZeroDivisionError("value of a row"), folder=tmp_path) == 1
    shown = capsys.readouterr().err
    assert "INVARIANT: unexpected ZeroDivisionError" in shown
    assert "Traceback" not in shown
    assert "value of a row" not in shown
    (kept,) = tmp_path.glob("crash-*.txt")
    assert "value of a row" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_the_table_of_an_error_is_in_its_json() -> None:
    assert error_json(TailraceError("m", table=TableId("a", "b")))["table"] == "a.b"


def test_column_and_position_of_an_error_are_in_its_json_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    error = StopError("m", code="C", hint="h", table=TableId("a", "b"), column="c", position="lsn:0/1")
    where = {"table": "a.b", "column": "c", "position": "lsn:0/1"}
    assert error_json(error) == {"code": "C", "message": "m", "remedy": "h", **where}
    ending(error)
    assert capsys.readouterr().err == "C [a.b]: m\n  position: lsn:0/1\n  hint: h\n"
