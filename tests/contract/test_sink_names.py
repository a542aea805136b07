"""Names of the source that the target cannot hold apart, or cannot hold: found before anything is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fix_sink import column, harness, table
from fix_versions import EVERY_TARGET

from tailrace_schemas.errors import Finding
from tailrace_schemas.table import TableSchema
from tailrace_schemas.types import INT64
from tailrace_sinks.conformance import World

pytestmark = pytest.mark.servers
TARGETS = pytest.mark.parametrize("name", EVERY_TARGET)


def named(schema: str, name: str, *columns: str) -> TableSchema:
    return table(name, *(column(c, INT64, "bigint", nullable=False) for c in columns), key=columns[:1], schema=schema)


def errors(name: str, *schemas: TableSchema) -> list[tuple[str, str]]:
    """(code, name of the table) of each finding that forbids to start. Namespace `left` goes into `shop`."""
    with harness(name) as target:
        world = World(target)
        config = replace(world.config, namespaces={"left": "shop"})
        found: list[Finding] = target.sink(config).findings(list(schemas))
        world.close()
    assert all(finding.remedy for finding in found)
    return [(f.code, f.table.name) for f in found if f.level == "error" and f.table is not None]


@TARGETS
@pytest.mark.case("K10", verdict="STOP(PREFLIGHT)")
def test_names_longer_than_the_target_takes_are_refused(name: str) -> None:
    limit = 63 if name.startswith("POSTGRES") else 64
    fitting = named("shop", "t" * limit, "id", "c" * limit)
    assert errors(name, fitting) == []
    assert errors(name, named("shop", "t", "id", "c" * (limit + 1))) == [("NAME_TOO_LONG", "t")]
    assert errors(name, named("shop", "t" * (limit + 1), "id")) == [("NAME_TOO_LONG", "t" * (limit + 1))]


def test_a_postgres_name_is_measured_in_bytes() -> None:
    assert errors("POSTGRES18", named("shop", "t", "id", "ü" * 32)) == [("NAME_TOO_LONG", "t")]


@TARGETS
@pytest.mark.case("K10", verdict="STOP(PREFLIGHT)")
def test_tables_that_would_be_one_at_the_target_are_refused(name: str) -> None:
    found = errors(name, named("shop", "t", "id"), named("left", "t", "id"), named("left", "other", "id"))
    assert found == [("NAMES_EQUAL", "t")] * 2


@TARGETS
@pytest.mark.case("K10", verdict="STOP(PREFLIGHT)")
def test_columns_that_differ_in_case_are_refused_where_they_would_be_one(name: str) -> None:
    found = errors(name, named("shop", "t", "id", "Order", "order"))
    assert found == ([] if name.startswith("POSTGRES") else [("NAMES_EQUAL", "t")] * 2)
