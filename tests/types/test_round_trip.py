"""Random rows of every type: what the load says = what the stream says = what the target holds, by the databases' word.

A table a family. The same rows are there twice: under ids 1… when the load begins, and again, inserted while it streams,
under ids N+1…; then rows are updated, in part and as a whole. The slow form takes TAILRACE_TYPES_VALUES values a family.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import fix_rows_mysql
import fix_rows_postgres
import pytest
from fix_capture import LogReading
from fix_rows import Family, Values
from fix_trip import Trip, shown, trip

pytestmark = pytest.mark.servers

SOURCES: dict[str, Family] = {
    "POSTGRES18": fix_rows_postgres.FAMILIES,
    "MYSQL9": fix_rows_mysql.MYSQL,
    "MARIADB118": fix_rows_mysql.MARIADB,
    "MYSQL80": fix_rows_mysql.FAMILIES,
    # It prints a sum of floats with 17 digits where the target prints 16, so their text is no judge.
    "MYSQL57": {name: values for name, values in fix_rows_mysql.FAMILIES.items() if name != "floats"},
}


def judge(trip: Trip) -> None:
    wrong = [*log_differences(trip), *target_differences(trip)]
    assert not wrong, "\n".join(["", *wrong])


def own_text(values: Values, engine: str) -> str:
    """What tells any two values of the type apart, as the same engine prints it."""
    if engine == "postgresql":
        return "encode(bpcharsend({}), 'hex')" if values.type == "character(12)" else "{}::text"
    return "HEX(CAST({} + 0e0 AS CHAR))" if values.type.startswith(("float", "double")) else "HEX(CAST({} AS BINARY))"


def target_differences(trip: Trip) -> list[str]:
    """What differs, a line for each column of a target."""
    out = []
    for name, family in trip.families.items():
        for target in trip.targets:
            alike = target.engine == trip.source.engine
            left = [own_text(v, trip.source.engine) if alike else v.shown for v in family]
            right = [own_text(v, target.engine) if alike else v.there for v in family]
            here, there = shown(trip.source, name, left), shown(target, name, right)
            assert [row[-1] for row in here] == [row[-1] for row in there] == list(range(1, 2 * trip.rows[name] + 1))
            for n, values in enumerate(family):
                wrong = [(a[-1], a[n], b[n]) for a, b in zip(here, there, strict=True)
                         if not _equal(a[n], b[n], str if alike else values.same)]  # fmt: skip
                if wrong:
                    shortest = min(wrong, key=lambda found: len(str(found)))
                    out.append(
                        f"{name}: {values.type}: {len(wrong)} values, such as (id, source, target) {shortest!r:.600}"
                    )
    return out


def _equal(here: object, there: object, same: Any) -> bool:
    if here is None or there is None:
        return here is there
    return bool(same(_text(here)) == same(_text(there)))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def log_differences(trip: Trip) -> list[str]:
    """Where the load's and the stream's words for the same value differ, by fastavro."""
    loaded: dict[tuple[str, int], Any] = {}
    out = []
    for topic, key, event in LogReading(trip.log).events():
        name = topic.rpartition(".")[2]
        if event is None or key is None or name not in trip.families or event.get("op") not in ("r", "c"):
            continue
        after = event["after"]
        number = after.pop("id")
        words = {
            column: (repr(value), (event["exact_values"] or {}).get(f"after.{column}"))
            for column, value in after.items()
        }
        if event["op"] == "r":
            loaded[name, number] = words
            continue
        before = loaded.pop((name, number - trip.rows[name]))
        for n, values in enumerate(trip.families[name]):
            if words[f"c{n}"] != before[f"c{n}"]:
                out.append(f"{name}: {values.type}: load {before[f'c{n}']!r:.300} stream {words[f'c{n}']!r:.300}")
    assert not loaded
    return _shorter(out)


def _shorter(lines: list[str]) -> list[str]:
    """One line of each column."""
    return list({line[: line.index(": ", line.index(": ") + 1)]: line for line in lines}.values())


CASES = {
    "POSTGRES18": ("POSTGRES18",),
    "MYSQL9": ("MYSQL9", "POSTGRES18"),
    "MARIADB118": ("MARIADB118", "POSTGRES18"),
}


@pytest.mark.parametrize("source", CASES)
@pytest.mark.case("A14", "A15", verdict="=")
def test_values_are_the_same_by_load_by_stream_and_at_the_target(source: str, seed: int, tmp_path: Path) -> None:
    with trip(source, CASES[source], SOURCES[source], 300, tmp_path / "p", Random(f"{seed} {source}")) as found:
        found.run()
        judge(found)


def test_values_of_postgres_in_mysql(seed: int, tmp_path: Path) -> None:
    families = fix_rows_postgres.IN_MYSQL
    with trip("POSTGRES18", ("MYSQL9", "MARIADB118"), families, 300, tmp_path / "p", Random(f"{seed} mysql")) as found:
        found.run()
        judge(found)


VALUES = int(os.environ.get("TAILRACE_TYPES_VALUES", "100000"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", [*CASES, "MYSQL80", "MYSQL57", "IN_MYSQL"])
def test_a_hundred_thousand_values_a_family(source: str, seed: int, tmp_path: Path) -> None:
    families = fix_rows_postgres.IN_MYSQL if source == "IN_MYSQL" else SOURCES[source]
    targets = ("MYSQL9", "MARIADB118") if source == "IN_MYSQL" else CASES.get(source, (source, "POSTGRES18"))
    if source == "MYSQL57":  # a source only
        targets = CASES["MYSQL9"]
    server = "POSTGRES18" if source == "IN_MYSQL" else source
    with trip(server, targets, families, VALUES, tmp_path / "p", Random(f"{seed} long {source}")) as found:
        found.run()
        judge(found)
