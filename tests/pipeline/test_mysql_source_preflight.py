"""What preflight says of a MySQL or MariaDB source, and that the statement it names clears the finding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fix_mysql import Sql, mysql_source
from fix_servers import MARIADB_NAMES, MYSQL, MYSQL_FAMILY, private_server

from tailrace_schemas.errors import ConfigError, Finding, RefusedError, SourceUnavailableError

pytestmark = pytest.mark.servers
FAMILY = pytest.mark.parametrize("name", MYSQL_FAMILY)


def findings(url: str, **which: bool) -> dict[str, Finding]:
    source = mysql_source(url)
    try:
        return {f.code: f for f in source.preflight(**({"load": True, "stream": True} | which))}
    finally:
        source.close()


@FAMILY
def test_a_source_as_it_should_be_has_no_errors(name: str, mysql_database: Callable[[str], str]) -> None:
    url = mysql_database(name)
    sql = Sql(url)
    sql.run("CREATE TABLE a(id int primary key)")
    assert [f for f in findings(url).values() if f.level == "error"] == []
    sql.close()


@FAMILY
@pytest.mark.case("K1", verdict="STOP(PREFLIGHT)")
def test_all_wrong_settings_are_named_at_once_and_their_statements_clear_them(name: str) -> None:
    config = "binlog_format=STATEMENT\nbinlog_row_image=MINIMAL\nloose_binlog_row_metadata=MINIMAL\nsync_binlog=0"
    if name in MARIADB_NAMES:
        config += "\ngtid_strict_mode=OFF"
    with private_server(name, config=config) as server:
        sql = Sql(server.url)
        sql.run("CREATE DATABASE d", "CREATE TABLE d.a(v int) ENGINE=MyISAM")
        found = findings(server.url + "d")
        expected = {"BINLOG_FORMAT", "ROW_IMAGE", "ROW_METADATA", "SYNC_BINLOG", "NO_KEY", "STORAGE_ENGINE"}
        assert expected | ({"GTID_STRICT"} if name in MARIADB_NAMES else set()) == set(found)
        for finding in found.values():
            if finding.remedy.startswith("SET GLOBAL"):
                sql.run(finding.remedy)
        sql.run("DROP TABLE d.a", "CREATE TABLE d.a(id int primary key)")
        left = findings(server.url + "d")
        assert set(left) == ({"ROW_METADATA"} if name == "MYSQL57" else set())
        assert found["ROW_METADATA"].level == "warning"
        sql.close()


@pytest.mark.parametrize("name", MYSQL)
def test_a_server_without_binary_log_can_only_be_loaded(name: str) -> None:
    with private_server(name, config="skip-log-bin\ngtid-mode=OFF\nenforce-gtid-consistency=OFF") as server:
        Sql(server.url).run("CREATE DATABASE d", "CREATE TABLE d.a(id int primary key)")
        assert findings(server.url + "d")["LOG_BIN"].level == "error"
        assert findings(server.url + "d", stream=False) == {}


@FAMILY
@pytest.mark.case("K3", verdict="STOP(PREFLIGHT)")
def test_missing_rights_are_named_with_the_grant_that_gives_them(
    name: str, mysql_database: Callable[[str], str]
) -> None:
    url = mysql_database(name)
    sql = Sql(url)
    user = f"u{sql.database[2:10]}"
    sql.run("CREATE TABLE a(id int primary key)", f"CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'")
    try:
        sql.run(f"GRANT SELECT ON {sql.database}.* TO '{user}'@'%'")
        poor = url.replace("cdc:pw", f"{user}:pw")
        source = mysql_source(poor)
        grants = [f.remedy for f in source.preflight(load=True, stream=True) if f.code == "GRANT"]
        source.close()
        assert len(grants) == 2
        for grant in grants:
            sql.run(grant)
        assert "GRANT" not in findings(poor)
    finally:
        sql.run(f"DROP USER '{user}'@'%'")
        sql.close()


@FAMILY
def test_wrong_password_and_nobody_there_are_told_apart(name: str, mysql_database: Callable[[str], str]) -> None:
    url = mysql_database(name)
    with pytest.raises(ConfigError) as wrong:
        findings(url.replace(":pw@", ":wrong@"))
    assert wrong.value.code == "PASSWORD"
    with pytest.raises(SourceUnavailableError):
        findings("mysql://cdc:pw@127.0.0.1:1/d")


@pytest.mark.parametrize("name", MYSQL_FAMILY[1:])  # 5.7 cannot read certificates of today
def test_tls_is_verified_as_asked(name: str) -> None:
    from fix_servers import certificates

    with private_server(name, tls=True) as server:
        sql = Sql(server.url)
        sql.run("CREATE DATABASE d", "CREATE TABLE d.a(id int primary key)")
        ca, other = (certificates() / f for f in ("ca.crt", "other-ca.crt"))
        assert "LOG_BIN" not in findings(f"{server.url}d?sslmode=verify-full&sslrootcert={ca}")
        with pytest.raises(RefusedError) as refused:
            findings(f"{server.url}d?sslmode=verify-full&sslrootcert={other}")
        assert refused.value.code == "TLS"
        sql.close()


def test_our_own_id_may_not_be_the_servers(mysql_database: Callable[[str], str]) -> None:
    url = mysql_database("MYSQL80")
    sql = Sql(url)
    number: Any = sql.run("SELECT @@GLOBAL.server_id")[0][0]
    source = mysql_source(url, int(number))
    assert [f.code for f in source.preflight(load=True, stream=True) if f.level == "error"] == ["SERVER_ID"]
    source.close()
    sql.close()
