"""The catalogue of hard cases, the marks of the tests, and the page made from them agree."""

from __future__ import annotations

from cases import report
from cases.catalogue import BY_ID, CASES
from cases.marks import marks


def test_every_case_is_marked_by_a_test_or_says_why_not() -> None:
    listed = {case["id"]: case["open"] for case in report.read()["cases"]}
    assert set(listed) == set(BY_ID)
    assert {case for case in BY_ID if not listed[case]} <= set(marks())
    assert set(marks()) <= set(BY_ID)


def test_ids_are_in_order_and_not_used_twice() -> None:
    order = [(case.id[0], int(case.id[1:])) for case in CASES]
    assert order == sorted(set(order))


def test_texts_of_the_report_are_those_of_the_catalogue() -> None:
    assert report.read() == report.merged(report.read(), [])


def test_the_page_is_what_the_generator_makes_of_the_report() -> None:
    assert (report.DOCS / "cases.md").read_text() == report.markdown(report.read())


def test_outcomes_of_a_run_replace_those_before_and_failures_win() -> None:
    test = "tests/specs/a16_toast.sql"
    told = {"case": "A16", "verdict": "=", "test": test, "version": "POSTGRES14"}
    first = report.merged({}, [{**told, "outcome": "pass"}])
    second = report.merged(first, [{**told, "outcome": "pass"}, {**told, "outcome": "fail"}])
    case = {entry["id"]: entry for entry in second["cases"]}["A16"]
    assert [report.outcome(case, version) for version in ("POSTGRES14", "POSTGRES15")] == ["fail", ""]
