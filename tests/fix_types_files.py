"""What the TYPES.md of the sources say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
POSTGRES = ROOT / "capture/tailrace_capture/postgres/TYPES.md"
MYSQL = ROOT / "capture/tailrace_capture/mysql/TYPES.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table of types; the cells as they stand there."""

    types: tuple[str, ...]
    logical: str
    avro: str
    postgres: str
    mysql: str
    parquet: str


def rows_of(file: Path) -> Iterator[Row]:
    for cells in cells_of(file, "type", "logical type"):
        yield Row(tuple(re.findall(r"`([^`]+)`", cells[0])), *cells[1:6])


def cells_of(file: Path, *header: str) -> Iterator[list[str]]:
    """The rows of the tables whose header begins like this."""
    inside = False
    for line in file.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            inside = False
        elif cells[: len(header)] == list(header):
            inside = True
        elif inside and not line.startswith("|---"):
            yield cells
