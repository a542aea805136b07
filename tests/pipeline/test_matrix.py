"""Full load and changes at once, from every source to both targets over both logs: equal rows, nothing applied twice.

A slice runs always; the whole matrix is `pytest -m slow tests/pipeline/test_matrix.py`, its scale by the variables
TAILRACE_MATRIX_ROWS, _RATE, _SECONDS, _WRITERS and _KILLS. The figures of each run are printed (`-rP`, or `-s`).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from fix_pipeline import matrix_case
from pipeline.matrix.case import Scale

pytestmark = pytest.mark.servers

SOURCES = ("POSTGRES14", "POSTGRES18", "MYSQL80", "MYSQL9", "MARIADB1011", "MARIADB118")
TARGETS = ("POSTGRES18", "MARIADB118")
LOGS = ("embedded", "kafka")

# Each source, target and log at least once; the rest is for the whole matrix.
SLICE = [
    ("POSTGRES14", "POSTGRES18", "kafka"),
    ("POSTGRES18", "MARIADB118", "embedded"),
    ("MYSQL80", "POSTGRES18", "embedded"),
    ("MYSQL9", "MARIADB118", "kafka"),
    ("MARIADB1011", "POSTGRES18", "kafka"),
    ("MARIADB118", "MARIADB118", "embedded"),
]


def _of_environment(name: str, default: float) -> float:
    return float(os.environ.get(f"TAILRACE_MATRIX_{name}", default))


def _play(source: str, target: str, log: str, folder: Path, seed: int, scale: Scale) -> None:
    with matrix_case(source, target, log, folder / "case", seed, scale) as case:
        print(f"{source} -> {target} over {log}: {case.run()}")


@pytest.mark.parametrize(("source", "target", "log"), SLICE)
@pytest.mark.case("B2", "B12", "C8", "E1", "E6", "E12", verdict="=")
def test_load_under_changes_and_kills_arrives_exactly_once(
    source: str, target: str, log: str, tmp_path: Path, seed: int
) -> None:
    _play(source, target, log, tmp_path, seed, Scale(kills=5))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_whole_matrix(source: str, target: str, log: str, tmp_path: Path, seed: int) -> None:
    _play(source, target, log, tmp_path, seed, _big(kills=0))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize(("source", "target"), [("POSTGRES18", "POSTGRES18"), ("MARIADB118", "MARIADB118")])
def test_forty_kills(source: str, target: str, log: str, tmp_path: Path, seed: int) -> None:
    _play(source, target, log, tmp_path, seed, _big(kills=40))


def _big(kills: int) -> Scale:
    return replace(
        Scale(load=1800, drain=1800, chunk_rows=20_000),
        rows=int(_of_environment("ROWS", 1_000_000)),
        rate=_of_environment("RATE", 2000),
        seconds=_of_environment("SECONDS", 90),
        writers=int(_of_environment("WRITERS", 4)),
        kills=int(_of_environment("KILLS", kills)) if kills else 0,
    )
