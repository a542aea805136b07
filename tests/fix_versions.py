"""The versions a test runs on: some in every run, the others in the long one (`slow`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fix_servers import MARIADB_NAMES, MYSQL_FAMILY_NAMES, MYSQL_NAMES, POSTGRES_NAMES

# The oldest and the newest of an engine: those between them say nothing else as a rule.
QUICK = ("POSTGRES14", "POSTGRES18", "MYSQL80", "MARIADB118")
NEWEST = ("POSTGRES18", "MYSQL80", "MARIADB118")


def each(names: Sequence[str], quick: Sequence[str] = QUICK) -> list[Any]:
    """Parameters of a test or a fixture."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


TARGETS = tuple(name for name in (*POSTGRES_NAMES, *MYSQL_FAMILY_NAMES) if name != "MYSQL57")
EVERY_POSTGRES = each(POSTGRES_NAMES)
EVERY_MYSQL = each(MYSQL_NAMES)
EVERY_MARIADB = each(MARIADB_NAMES)
EVERY_MYSQL_FAMILY = each(MYSQL_FAMILY_NAMES)
EVERY_SOURCE = each((*POSTGRES_NAMES, *MYSQL_FAMILY_NAMES), NEWEST)
EVERY_TARGET = each(TARGETS, NEWEST)
