"""A parent deleted while the load is between its children and itself: the binlog names the parent only (rule D7)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fix_pipeline import side
from fix_servers import wait_until
from pipeline.matrix.case import pipeline_command
from pipeline.matrix.engine import Session, Side

pytestmark = pytest.mark.servers


def _read_view_is_old(session: Session) -> bool:
    """Whether some transaction has been open for two seconds: the load's, which reads the children slowly."""
    query = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_started < now() - INTERVAL 2 SECOND"
    return int(str(session.rows(query)[0][0])) > 0


@pytest.mark.parametrize("server", ["MYSQL80", "MARIADB118"])
@pytest.mark.case("B15", verdict="=")
def test_children_of_a_parent_deleted_between_their_chunks_go_too(
    server: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    with side(server, "") as source:
        target = Side("postgresql", postgres_database("POSTGRES18"), source.namespace)
        with source.session() as session:
            session.run("CREATE TABLE b_parents (id int PRIMARY KEY)")
            session.run(
                "CREATE TABLE a_children (id int PRIMARY KEY, parent int NOT NULL,"
                " FOREIGN KEY (parent) REFERENCES b_parents (id) ON DELETE CASCADE)"
            )
            session.run("INSERT INTO b_parents VALUES (1), (2)")
            session.run("INSERT INTO a_children VALUES (10, 1), (11, 1), (20, 2), (21, 2), (22, 2), (23, 2)")
            command = pipeline_command(tmp_path, source, target, f"cascade_{source.namespace}", "sqlite", 1000)
            command.pipeline["load"] |= {"readers": 1, "max_rows_per_second": 1}
            try:
                command.start("--until-current")
                wait_until(lambda: _read_view_is_old(session), 30, "the children are being read")
                session.run("DELETE FROM b_parents WHERE id = 1")
                command.end(60)
            finally:
                command.close()
        with target.session() as session:
            assert session.rows("SELECT id FROM b_parents ORDER BY id") == [(2,)]
            assert session.rows("SELECT id FROM a_children ORDER BY id") == [(20,), (21,), (22,), (23,)]
