"""The examples of each TYPES.md: a value of every type, and what the log and each target then hold, by load and by stream.

Whoever reads the file can predict a value downstream: here the file alone says what has to be there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fix_capture import LogReading
from fix_rows import Values
from fix_trip import Trip, prepare, shown, trip
from fix_types_files import MYSQL, POSTGRES, cells_of, rows_of
from pipeline.matrix.engine import Side

A_TABLE = 25  # columns; a row of MySQL is at most 65,535 bytes
NO_SERVER = {"vector(3)", "halfvec(3)"}  # of pgvector
_RAW = re.compile("binary|blob|bit|geometry|point|linestring|polygon|vector|collection")


@dataclass(frozen=True, slots=True)
class Example:
    """One row. `value`: SQL at the source. `avro`: JSON, bytes as 0x…, decimals as texts, and behind `; exact` what `exact_values` has.
    `mysql` and `mariadb`: as CAST(… AS CHAR) gives it, bytes as 0x…."""

    type: str
    value: str
    avro: str
    postgres: str
    mysql: str
    mariadb: str


def examples_of(file: Path) -> list[Example]:
    out = []
    for cells in cells_of(file, "type", "example"):
        type_, value, avro, postgres, mysql = (cell.strip("`") for cell in cells[:5])
        first, _, second = mysql.partition("`, MariaDB `")
        out.append(Example(type_, value, avro, postgres, first, second or first))
    return out


@pytest.mark.parametrize("file", [POSTGRES, MYSQL])
def test_every_type_has_an_example(file: Path) -> None:
    said = {type_ for row in rows_of(file) for type_ in row.types}
    assert said - NO_SERVER - {example.type for example in examples_of(file)} == set()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("file", "source", "targets"),
    [
        (POSTGRES, "POSTGRES18", ("POSTGRES18", "MYSQL9", "MARIADB118")),
        (MYSQL, "MYSQL9", ("MYSQL9", "POSTGRES18")),
        (MYSQL, "MARIADB118", ("MARIADB118", "POSTGRES18")),
    ],
)
def test_the_file_alone_tells_every_value(file: Path, source: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    absent = {"MYSQL9": {"uuid", "inet4", "inet6"}, "MARIADB118": {"json"}}.get(source, set())
    examples = [example for example in examples_of(file) if example.type not in absent]
    parts = {f"t{n}": examples[n * A_TABLE : (n + 1) * A_TABLE] for n in range(-(-len(examples) // A_TABLE))}
    families = {name: tuple(_column(example) for example in part) for name, part in parts.items()}
    with trip(source, targets, families, 1, tmp_path / "p", Random(0)) as found:
        found = replace(found, rows=dict.fromkeys(families, 1))
        found.run()
        wrong = [*_wrong_in_log(found, parts)]
        for name, target in zip(targets, found.targets, strict=True):
            wrong += _wrong_at(name, target, parts)
    assert not wrong, "\n".join(["", *wrong])


def _column(example: Example) -> Values:
    return Values(example.type, (example.value,), lambda _: example.value)


def _wrong_in_log(found: Trip, parts: dict[str, list[Example]]) -> Iterator[str]:
    for topic, key, event in LogReading(found.log).events():
        part = parts.get(topic.rpartition(".")[2])
        if part is None or event is None or key is None or event.get("op") not in ("r", "c"):
            continue
        exact = event["exact_values"] or {}
        for n, example in enumerate(part):
            words = json.dumps(event["after"][f"c{n}"], default=_text, ensure_ascii=False)
            if f"after.c{n}" in exact:
                words += f"; exact {exact[f'after.c{n}']}"
            if words != example.avro:
                yield f"{example.type} in an event of op {event['op']}: `{words}`, the file says `{example.avro}`"


def _text(value: object) -> str:
    """Of what JSON has no form for."""
    if isinstance(value, Decimal):
        return str(value)
    assert isinstance(value, bytes)
    return "0x" + value.hex()


def _wrong_at(name: str, target: Side, parts: dict[str, list[Example]]) -> Iterator[str]:
    for table, part in parts.items():
        for row in shown(target, table, _expressions(target, table, len(part))):
            for example, found in zip(part, row, strict=False):
                said = example.postgres if target.engine == "postgresql" else example.mysql
                said = example.mariadb if name.startswith("MARIADB") else said
                words = found.decode() if isinstance(found, bytes) else found
                if words != said:
                    yield f"{example.type} at {name}, row {row[-1]}: `{words}`, the file says `{said}`"


def _expressions(target: Side, table: str, width: int) -> list[str]:
    if target.engine == "postgresql":
        return ["{}::text"] * width
    with target.session() as session:
        prepare(target, session)
        words = "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = DATABASE()"
        types: dict[Any, Any] = {str(c): str(t) for c, t in session.rows(f"{words} AND table_name = '{table}'")}
    raw = [bool(_RAW.search(types[f"c{n}"])) for n in range(width)]
    return ["CONCAT('0x', LOWER(HEX({})))" if is_raw else "CAST({} AS CHAR)" for is_raw in raw]
