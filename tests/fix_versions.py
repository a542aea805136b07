"""The versions a test runs on: the oldest and the newest of an engine in every run, those between them in the long one
(`slow`): they say nothing else as a rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fix_servers import POSTGRES_NAMES

QUICK = ("POSTGRES14", "POSTGRES18", "MYSQL80", "MARIADB118")


def each(names: Sequence[str]) -> list[object]:
    """Parameters of a test or a fixture."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


EVERY_POSTGRES = each(POSTGRES_NAMES)
