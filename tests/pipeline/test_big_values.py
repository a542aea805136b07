"""Case A21: values of tens of megabytes, loaded and streamed, through to a target."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_command import tailrace
from fix_servers import POSTGRES_NAMES
from test_big_transaction import fresh, run

pytestmark = pytest.mark.servers
SIZE = 33 << 20


@pytest.mark.parametrize(("source", "target"), [("POSTGRES18", "POSTGRES18"), ("MYSQL80", "MARIADB118")])
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.case("A21", verdict="=")
def test_values_of_tens_of_megabytes_arrive(source: str, target: str, tmp_path: Path) -> None:
    postgres = source in POSTGRES_NAMES
    binary = "bytea" if postgres else "longblob"
    with fresh(source) as left, fresh(target) as right:
        if not postgres:
            for url in (left, right):
                run(url, "SET GLOBAL max_allowed_packet = 268435456")
        words = (left, right, "--name", "p", "--until-current")
        run(left, f"CREATE TABLE a (id int PRIMARY KEY, v int, b {binary}, t {'text' if postgres else 'longtext'})")
        run(left, f"INSERT INTO a VALUES (1, 1, NULL, repeat('é', {SIZE // 2}))")
        assert tailrace(tmp_path, "run", *words, timeout=120).code == 0
        blob = f"decode(repeat('00ff27', {SIZE // 3}), 'hex')" if postgres else f"repeat(x'00ff27', {SIZE // 3})"
        run(left, f"INSERT INTO a VALUES (2, 1, {blob}, 'x')", "UPDATE a SET v = 2")
        assert tailrace(tmp_path, "run", *words, timeout=120).code == 0
        hashed = "md5(b), md5(t)" if postgres else "sha2(b, 256), sha2(t, 256)"
        query = f"SELECT id, v, length(b), length(t), {hashed} FROM a ORDER BY id"
        assert run(right, query) == run(left, query)
        assert len(run(right, query)) == 2
