"""Notes how the tests of the hard cases end: `pytest -p cases.plugin --cases FILE` writes a JSON list of
{case, verdict, test, version, outcome}. `-m case` selects them. Works under pytest-xdist: marks travel with the reports.

A mark is `@pytest.mark.case("A16", "E18", verdict="=")`. The version is the first server name among the test's
parameters; `on="MYSQL9"` names it (or several) where no parameter does. A test without any speaks for every version.
`file=` names what is proved where one test function runs many files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cases.catalogue import BY_ID, VERSIONS

PROPERTY = "case"
PASSED = "case passed"  # (PASSED, file): a part of a test that failed as a whole


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", metavar="FILE", type=Path, help="write the outcomes of the hard cases to FILE")
    parser.addoption("--specs", metavar="NAME", default="", help="play only specs whose names begin so")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--cases")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Outcomes(path), "cases outcomes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every report of a marked test tells what it speaks for."""
    for item in items:
        for mark in item.iter_markers("case"):
            _check(item, mark)
            test = mark.kwargs.get("file") or item.nodeid.partition("[")[0]
            for version in _versions(item, mark):
                for case in mark.args:
                    item.user_properties.append((PROPERTY, [case, mark.kwargs["verdict"], version, test]))


def _check(item: pytest.Item, mark: pytest.Mark) -> None:
    unknown = [case for case in mark.args if case not in BY_ID]
    if unknown or not mark.args or not set(mark.kwargs) <= {"verdict", "on", "file"} or "verdict" not in mark.kwargs:
        raise pytest.UsageError(f'{item.nodeid}: the mark is case("A1", verdict="="); unknown: {unknown}')


def _versions(item: pytest.Item, mark: pytest.Mark) -> list[str]:
    if "on" in mark.kwargs:
        return str(mark.kwargs["on"]).split()
    params = getattr(item, "callspec", None)
    named = [name for value in (params.params.values() if params else ()) for name in _names(value)]
    return named[:1] or [""]


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value in VERSIONS:
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _names(part)


class _Outcomes:
    """Collects reports; one outcome a test: the worst of set-up, call and tear-down."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: dict[tuple[str, str, str], dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and (outcome := _outcome(report)):
                case, verdict, version, test = map(str, cast("list[str]", value))
                outcome = "pass" if (PASSED, test) in report.user_properties else outcome
                told = {"case": case, "verdict": verdict, "version": version, "test": test, "outcome": outcome}
                if outcome == "fail" or (case, version, report.nodeid) not in self._told:
                    self._told[case, version, report.nodeid] = told

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(list(self._told.values()), indent=0) + "\n")


def _outcome(report: pytest.TestReport) -> str:
    """`fail` also for what is expected to fail; empty for what says nothing."""
    if report.failed or hasattr(report, "wasxfail"):
        return "fail"
    return "pass" if report.when == "call" and report.passed else ""
