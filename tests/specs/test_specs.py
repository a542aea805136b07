"""The files beside this one: SQL, and the events it must become, at every version; then the targets equal the source.

All files share one source, one log and two targets per version, for speed; each has tables of its own, named like it.
`--specs a1` plays those whose names begin so. The format is in README.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cases.catalogue import VERSIONS
from cases.plugin import PASSED
from fix_servers import POSTGRES_NAMES, server
from fix_versions import QUICK
from specs.play import played
from specs.spec import Spec, read_specs

pytestmark = pytest.mark.servers
SPECS = read_specs(Path(__file__).parent)


def _file(spec: Spec) -> str:
    return f"tests/specs/{spec.name}.sql"


def _param(version: str) -> object:
    marks = [] if version in QUICK else [pytest.mark.slow]
    marks += [pytest.mark.case(*s.cases, verdict=s.verdict, file=_file(s)) for s in SPECS if version in s.versions]
    return pytest.param(version, marks=marks, id=version)


@contextmanager
def zone(name: str) -> Iterator[None]:
    """A worker that lives somewhere with gaps in its year."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        del os.environ["TZ"]
        os.environ.update({"TZ": before} if before else {})
        time.tzset()


@pytest.mark.parametrize("version", [_param(version) for version in VERSIONS])
def test_specs(version: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    wanted = request.config.getoption("--specs")
    specs = [spec for spec in SPECS if version in spec.versions and spec.name.startswith(wanted)]
    server(version)
    server("POSTGRES18" if version in POSTGRES_NAMES else "MARIADB118")  # they do not live in the zone of this process
    with zone("America/New_York"), played(version, specs, tmp_path) as play:
        faults = {spec: play.faults(spec) for spec in specs}
    request.node.user_properties += [(PASSED, _file(spec)) for spec, lines in faults.items() if not lines]
    wrong = [line for lines in faults.values() for line in lines]
    assert not wrong, "\n".join(wrong)
