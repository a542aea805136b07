"""A server that answers and does not let us in: said at once at a start, waited for while running."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_command import started, tailrace
from fix_servers import PrivateServer, certificates, private_server, wait_until

pytestmark = pytest.mark.servers
HBA = "host all locked_out 127.0.0.1/32 reject\nhost all cdc,writer 127.0.0.1/32 scram-sha-256"
PATIENCE = "--connect-timeout=600"  # a refusal that is retried outlives the test's own deadline


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    with private_server("POSTGRES18", hba=HBA) as one:
        run_sql(
            one.url,
            "create role cdc superuser login password 'one'",
            "create role writer superuser login password 'one'",
            "create role locked_out login",
            "create role nologin nologin",
            "create database s",
            "create database t",
        )
        run_sql(url_of(one, "postgres", "s"), "create table a (id int primary key)", "insert into a values (1)")
        yield one


def url_of(server: PrivateServer, login: str, database: str) -> str:
    return f"postgresql://{login}@{server.host}:{server.port}/{database}"


REFUSALS = [
    ("cdc:two", "s", "PASSWORD"),
    ("cdc", "s", "PASSWORD"),
    ("nobody", "s", "PASSWORD"),
    ("nologin", "s", "PASSWORD"),
    ("locked_out", "s", "PG_HBA"),
    ("cdc:one", "missing", "NO_DATABASE"),
    ("cdc:one", "s?sslmode=require", "TLS"),
]


@pytest.mark.parametrize("login, database, code", REFUSALS)
def test_a_refused_source_ends_capture_at_once_with_exit_code_2(
    server: PrivateServer, login: str, database: str, code: str, tmp_path: Path
) -> None:
    ended = tailrace(tmp_path, "capture", url_of(server, login, database), PATIENCE)
    assert ended.code == 2, ended.text
    assert f"{code}: the source " in ended.err
    assert "hint: " in ended.err
    assert "two" not in ended.text


@pytest.mark.parametrize("login, database, code", REFUSALS)
def test_a_refused_target_ends_its_sink_at_once_with_exit_code_2(
    server: PrivateServer, login: str, database: str, code: str, tmp_path: Path
) -> None:
    source = url_of(server, "cdc:one", "s")
    ended = tailrace(tmp_path, "sink", source, url_of(server, login, database), PATIENCE)
    assert ended.code == 2, ended.text
    assert f"{code}: the target " in ended.err
    assert "hint: " in ended.err


def test_check_and_run_name_both_refusals_as_findings_and_tail_ends_at_once(
    server: PrivateServer, tmp_path: Path
) -> None:
    source, target = url_of(server, "cdc:two", "s"), url_of(server, "nobody", "t")
    for command in ("check", "run"):
        ended = tailrace(tmp_path, command, source, target, PATIENCE)
        assert ended.code == 3, ended.text
        assert ended.err.count("error PASSWORD: the ") == 2, ended.text
    ended = tailrace(tmp_path, "tail", source, PATIENCE)
    assert ended.code == 2, ended.text
    assert "PASSWORD: the source" in ended.err


@pytest.mark.parametrize("name", ["MYSQL80", "MARIADB118"])
@pytest.mark.case("K4", verdict="STOP(REFUSED)")
def test_a_refused_mysql_login_ends_each_process_at_once(
    name: str, mysql_database: Callable[[str], str], tmp_path: Path
) -> None:
    good = mysql_database(name)
    bad = good.replace(":pw@", ":wrong@")
    ended = tailrace(tmp_path, "capture", bad, PATIENCE)
    assert ended.code == 2, ended.text
    assert "PASSWORD: the source" in ended.err
    ended = tailrace(tmp_path, "sink", good, bad, PATIENCE)
    assert ended.code == 2, ended.text
    assert "PASSWORD: the target" in ended.err
    assert "wrong" not in ended.text


@pytest.mark.parametrize("name", ["POSTGRES18", "MYSQL80", "MARIADB118"])
def test_a_certificate_that_is_not_trusted_ends_each_process_at_once(name: str, tmp_path: Path) -> None:
    other = certificates() / "other-ca.crt"
    with private_server(name, tls=True) as server:
        url = server.url.rstrip("/").removesuffix("/postgres") + f"/postgres?sslmode=verify-full&sslrootcert={other}"
        ended = tailrace(tmp_path, "capture", url, PATIENCE)
        assert ended.code == 2, ended.text
        assert "TLS: the source" in ended.err
        ended = tailrace(tmp_path, "sink", url, url, PATIENCE)
        assert ended.code == 2, ended.text
        assert "TLS: the target" in ended.err


def test_a_ca_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = "mysql://cdc@db.example/shop?sslrootcert=/nowhere/ca.crt"
    ended = tailrace(tmp_path, "capture", url, PATIENCE)
    assert ended.code == 2, ended.text
    assert "sslrootcert /nowhere/ca.crt cannot be read" in ended.err


@pytest.mark.case("K4", verdict="STOP(REFUSED)", on="POSTGRES18")
def test_a_password_changed_while_running_is_said_and_waited_for(server: PrivateServer, tmp_path: Path) -> None:
    source, target = url_of(server, "cdc:one", "s"), url_of(server, "writer:one", "t")

    def said(role: str) -> dict[str, Any]:
        path = tmp_path / f"tailrace/s/status/{role}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def rows() -> list[int]:
        with psycopg.connect(url_of(server, "postgres", "t")) as connection:
            if connection.execute("select to_regclass('public.a')").fetchone() == (None,):
                return []
            return [row[0] for row in connection.execute("select id from public.a order by 1")]

    def waits(role: str) -> bool:
        return "refuses the connection" in json.dumps(said(role))

    def insert(number: int) -> None:
        run_sql(url_of(server, "postgres", "s"), f"insert into a values ({number})")

    with started(tmp_path, "run", source, target) as run:
        wait_until(lambda: rows() == [1], 60, "the load is at the target")
        wait_until(lambda: said("capture").get("state") == "running", 30, "capture says that it runs")
        pids = {role: said(role)["pid"] for role in ("capture", "sink-postgres")}
        for number, (role, login) in enumerate([("capture", "cdc"), ("sink-postgres", "writer")], 2):
            end = f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{login}'"
            run_sql(server.url, f"alter role {login} password 'two'", end)
            insert(number)
            wait_until(lambda role=role: waits(role), 60, f"{role} says why it waits")  # type: ignore[misc]
            run_sql(server.url, f"alter role {login} password 'one'")
            wanted = list(range(1, number + 1))
            wait_until(lambda wanted=wanted: rows() == wanted, 60, "the pipeline goes on")  # type: ignore[misc]
            wait_until(lambda role=role: not waits(role), 30, f"{role} says no more that it waits")  # type: ignore[misc]
        assert pids == {role: said(role)["pid"] for role in pids}, "a process was restarted"
        run.send(signal.SIGTERM)
        assert run.end().code == 0
