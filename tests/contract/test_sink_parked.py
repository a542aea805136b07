"""Rows that meet a unique value of the target while a table is loaded, against real servers."""

from collections.abc import Callable

import pytest
from fix_sink import harness

from tailrace_sinks.conformance import World
from tailrace_sinks.conformance_parked import CASES

pytestmark = pytest.mark.servers
SERVERS = ("POSTGRES14", "POSTGRES18", "MARIADB1011", "MARIADB118", "MYSQL80", "MYSQL9")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("name", SERVERS)
def test_sink_parks_what_cannot_be_there_yet(name: str, case: Callable[[World], None]) -> None:
    with harness(name) as target:
        world = World(target)
        try:
            case(world)
        finally:
            world.close()
