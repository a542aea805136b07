"""The catalogue of error codes holds what is raised, all of it and nothing else; docs/errors.md is made of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from fix_codes import ROOT, raised

from tailrace import errors_file
from tailrace_schemas import refused
from tailrace_schemas.error_codes import CATALOGUE, KINDS, NEW_LOAD, Kind

ENTRIES = {entry.code: entry for entry in CATALOGUE}

# Codes that are no literals where they are raised: those that pass an error on, and those that make one up.
PASSED_ON = {
    "capture/tailrace_capture/harm.py: self.code",
    "capture/tailrace_capture/harm.py: trouble.code",
    "capture/tailrace_capture/mysql/jsonb.py: data[at]",  # another code: the type byte of a JSON value
    "capture/tailrace_capture/mysql/preflight.py: code",
    "capture/tailrace_capture/mysql/preflight.py: error.code",
    "capture/tailrace_capture/mysql/source.py: error.code",
    "capture/tailrace_capture/postgres/publication.py: error.code",
    "capture/tailrace_capture/postgres/publication.py: finding.code",
    "capture/tailrace_capture/publish.py: error.code",
    "sinks/tailrace_sinks/key_rules.py: code",
    "sinks/tailrace_sinks/key_rules.py: finding.code",
    "sinks/tailrace_sinks/service.py: error.code",
    "sinks/tailrace_sinks/status.py: error.code",
    "tailrace/boundary.py: error.code",
    "tailrace/boundary.py: finding.code",
    "tailrace/commands.py: error['code']",
    "tailrace/letters.py: letter.code",
    "tailrace/preflight.py: error.code",
    "tailrace/supervisor.py: code",  # another code: a process's exit code
}
MADE_UP = {
    "schemas/tailrace_schemas/refused.py: code": {
        *(code for _, code, _ in refused._POSTGRES),
        *(code for code, _ in refused._MYSQL.values()),
    },
    "sinks/tailrace_sinks/mysql_errors.py: f'TARGET_{number}'": {"TARGET_n"},
    "sinks/tailrace_sinks/postgres_errors.py: f'TARGET_{state}'": {"TARGET_n"},
}
KIND_OF = {
    **dict.fromkeys(["ConfigError", "SettingsError", "PreflightError"], Kind.START),
    **dict.fromkeys(["Finding", "_error", "_warning", "_finding", "found"], Kind.CHECK),
    **dict.fromkeys(["StopError", "InvariantError", "TailraceError", "Trouble"], Kind.STOP),
    **dict.fromkeys(["DecodeError", "RowRejectedError"], Kind.ROW),
    "PositionLostError": Kind.LOST,
    "RefusedError": Kind.LOGIN,
    "dict": Kind.TABLE,
}
# What a call does not tell: a class in a variable, and findings raised as errors or errors shown as findings.
FURTHER = {
    "TYPE": {Kind.STOP, Kind.CHECK},
    **{code: {Kind.STOP} for code in ("KEY_COLLATION", "KEY_FOREIGN_KEY", "KEY_KEYLESS", "KEY_UNIQUE")},
}


def kinds_of(code: str, places: set[tuple[str, str]]) -> set[Kind]:
    out = set(FURTHER.get(code, set()))
    for package, called in places - {("log", "kind")}:
        if called == "TableStopError":
            out.add(Kind.TABLE if package == "capture" else Kind.STOP)  # a sink has one order for all its tables
        else:
            out.add(KIND_OF.get(called, Kind.WAIT))
    return out | ({Kind.LOGIN} if code in MADE_UP["schemas/tailrace_schemas/refused.py: code"] else set())


def all_raised() -> set[str]:
    return set(raised().by_code).union(*MADE_UP.values())


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    assert sorted(all_raised() - ENTRIES.keys()) == [], "enter it in schemas/tailrace_schemas/error_codes.py"


def test_every_code_of_the_catalogue_is_raised() -> None:
    assert sorted(ENTRIES.keys() - all_raised()) == []


def test_codes_that_are_no_literals_are_known() -> None:
    assert raised().computed == PASSED_ON | MADE_UP.keys()


def test_every_code_stands_once_in_its_order() -> None:
    assert [code for code, count in Counter(entry.code for entry in CATALOGUE).items() if count > 1] == []
    order = [(list(Kind).index(entry.kinds[0]), entry.code) for entry in CATALOGUE]
    assert order == sorted(order)


def test_every_code_says_what_it_comes_as() -> None:
    by_code = raised().by_code
    told = {code: kinds_of(code, by_code.get(code, set())) for code in ENTRIES if code != "TARGET_n"}
    assert {code: set(ENTRIES[code].kinds) for code in told} == told


def test_every_code_has_a_meaning_and_a_fix() -> None:
    for entry in CATALOGUE:
        assert re.fullmatch(r"[A-Z`].*[.]", entry.meaning), entry.code
        for line in entry.fix.split("\n"):
            assert line.strip() == line != "", entry.code
            assert line.count("`") % 2 == 0, entry.code


def test_every_kind_says_what_is_safe_and_what_to_do_then() -> None:
    assert KINDS.keys() == set(Kind)
    assert all(words.happens and words.safe and words.then for words in KINDS.values())


def test_the_document_is_what_the_catalogue_makes() -> None:
    shipped = Path(ROOT, "docs", "errors.md").read_text(encoding="utf-8")
    assert shipped == errors_file.text(), "run: python -m tailrace.errors_file"


def test_every_link_of_the_document_has_its_heading() -> None:
    document = errors_file.text()
    headings = re.findall(r"^##+ (.*)$", document, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]*)\)", document))
    assert links <= anchors
    assert {errors_file.anchor(code) for code in ENTRIES} <= links
    assert NEW_LOAD in document
