"""What `check` says of a Postgres source that is not ready: everything at once, and the remedies are enough."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from fix_command import tailrace
from fix_servers import private_server
from fix_versions import EVERY_POSTGRES

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("version", EVERY_POSTGRES)
@pytest.mark.case("B5", verdict="STOP(REPLICA_IDENTITY)")
@pytest.mark.case("K3", verdict="STOP(PREFLIGHT)")
def test_every_finding_comes_at_once_and_the_remedies_clear_them(version: str, tmp_path: Path) -> None:
    with private_server(version, config="max_replication_slots = 1\nwal_level = logical") as server:
        _run(
            server.url,
            "CREATE ROLE clerk LOGIN",
            "CREATE TABLE keyless (a int)",
            "CREATE TABLE sums (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a + 1) STORED)",
            "CREATE TABLE hidden (a int PRIMARY KEY)",
            "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
            "GRANT SELECT ON hidden TO clerk",
            "SELECT pg_create_physical_replication_slot('other')",
        )
        source = server.url.replace("postgres@", "clerk@")
        found = tailrace(tmp_path, "check", source, "--json")
        assert found.code == 3
        findings = found.data["findings"]
        codes = {(finding["code"], finding["level"]) for finding in findings}
        assert codes >= {
            ("NO_FREE_SLOT", "error"),
            ("PRIVILEGE", "error"),
            ("REPLICA_IDENTITY", "error"),
            ("ROW_SECURITY", "error"),
            ("GENERATED", "warning"),
        }
        for finding in findings:
            if finding["level"] == "error":
                _run(server.url, *_statements(finding["remedy"]))
        server.stop()
        server.start()
        cleared = tailrace(tmp_path, "check", source, "--json")
        assert [f for f in cleared.data["findings"] if f["level"] == "error"] == []
        assert cleared.code == 0
        _run(server.url, "CREATE DATABASE copy", "INSERT INTO hidden VALUES (1)")
        ran = tailrace(tmp_path, "run", source, server.url.rpartition("/")[0] + "/copy", "--until-current")
        assert ran.code == 0, ran.text


def test_a_publication_that_a_dba_made_is_enough_for_tables_of_others(tmp_path: Path) -> None:
    with private_server("POSTGRES18", config="wal_level = logical") as server:
        _run(
            server.url,
            "CREATE ROLE clerk LOGIN REPLICATION",
            'CREATE SCHEMA "Sales"',
            'CREATE TABLE "Sales".orders (a int PRIMARY KEY)',
            "CREATE TABLE items (a int PRIMARY KEY)",
            'GRANT USAGE ON SCHEMA "Sales" TO clerk',
            'GRANT SELECT ON items, "Sales".orders TO clerk',
            'CREATE PUBLICATION tailrace_p FOR TABLE "Sales".orders WITH (publish_via_partition_root = true)',
            "CREATE DATABASE copy",
        )
        source = server.url.replace("postgres@", "clerk@")
        target = server.url.rpartition("/")[0] + "/copy"

        def unpublished() -> list[str]:
            found = tailrace(tmp_path, "check", source, target, "--name", "p", "--json").data["findings"]
            return [f["table"] for f in found if f["code"] == "PRIVILEGE"]

        assert unpublished() == ["public.items"]
        _run(server.url, "ALTER PUBLICATION tailrace_p ADD TABLE items")
        assert unpublished() == []
        ran = tailrace(tmp_path, "run", source, target, "--name", "p", "--until-current")
        assert ran.code == 0, ran.text


def _statements(remedy: str) -> list[str]:
    """The SQL of a remedy, which may end in words for a person."""
    sql = remedy.removeprefix("as its owner: ").partition(", or ")[0].replace("OWNER TO …", "OWNER TO clerk")
    return [part.strip() for part in sql.split(";") if not part.strip().startswith("then ")]


def _run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
