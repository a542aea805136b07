"""The `tailrace` command against real servers: what it prints, leaves behind and ends with."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import yaml
from fix_command import Ended, started, tailrace
from fix_servers import private_server, wait_until

from tailrace_schemas.uri import parse_database_url

pytestmark = pytest.mark.servers
SERVER = "POSTGRES18"
TABLES = """
create table parents (id int primary key, name text not null, at timestamptz default now());
create table children (id bigint primary key, parent_id int references parents, price numeric(10,2), data jsonb);
insert into parents select n, 'parent ' || n from generate_series(1, 200) n;
insert into children select n, n % 200 + 1, n / 7.0, jsonb_build_object('n', n) from generate_series(1, 2000) n;
"""


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def values(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return [row[0] for row in connection.execute(query.encode())]


def rows(url: str, table: str) -> list[Any]:
    with suppress(psycopg.errors.UndefinedTable):
        return values(url, f"select t::text from {table} t order by 1")
    return []


def equal(source: str, target: str) -> bool:
    return all(rows(source, table) == rows(target, table) for table in ("parents", "children"))


def name_of(url: str) -> str:
    """The name that a pipeline from this source has by default: no two tests share it, nor the slot named after it."""
    return url.rpartition("/")[2]


def slots(url: str) -> list[str]:
    return values(url, "select slot_name::text from pg_replication_slots where database = current_database()")


def publications(url: str) -> list[str]:
    return values(url, "select pubname::text from pg_publication")


def pid_of(state_home: Path, role: str) -> int:
    """The process that holds a role, once it says that it runs; 0 before."""
    for path in state_home.glob(f"tailrace/*/status/{role}.json"):
        data = json.loads(path.read_text())
        return int(data["pid"]) if data["state"] == "running" else 0
    return 0


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child of a killed parent is reaped by somebody else, in its own time.
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


@pytest.fixture
def source(postgres_database: Callable[[str], str]) -> str:
    url = postgres_database(SERVER)
    run_sql(url, TABLES)
    return url


@pytest.fixture
def target(postgres_database: Callable[[str], str]) -> str:
    return postgres_database(SERVER)


def run(home: Path, source: str, target: str, *flags: str) -> Ended:
    return tailrace(home, "run", source, target, *flags)


def test_run_until_current_copies_streams_and_continues(source: str, target: str, tmp_path: Path) -> None:
    first = run(tmp_path, source, target, "--until-current")
    assert first.code == 0, first.text
    assert re.match(r"tailrace \S+ \((compiled|interpreted)\)$", first.out.splitlines()[0])
    assert equal(source, target)
    run_sql(
        source,
        "update parents set name = 'other' where id < 50; update parents set id = id + 1000 where id > 190"
        " and not exists (select from children c where c.parent_id = parents.id)",
        "delete from children where id % 3 = 0",
        "insert into parents values (5000, 'new'); insert into children values (9000, 5000, 1, null)",
    )
    second = run(tmp_path, source, target, "--until-current")
    assert second.code == 0, second.text
    assert equal(source, target)


def test_status_works_with_no_process_running(source: str, target: str, tmp_path: Path) -> None:
    assert run(tmp_path, source, target, "--until-current").code == 0
    status = tailrace(tmp_path, "status", "--name", name_of(source), "--json").data
    assert set(status) >= {"pipeline", "state", "mode", "source", "log", "sinks", "tables", "compiled"}
    assert (status["pipeline"], status["state"], status["mode"]) == (name_of(source), "stopped", "full-load-and-cdc")
    assert status["source"]["kind"] == "postgresql"
    assert status["source"]["position"].startswith("lsn:")
    assert status["log"]["kind"] == "sqlite"
    assert status["log"]["bytes"] > 0
    (sink,) = status["sinks"]
    assert (sink["name"], sink["state"]) == ("postgres", "stopped")
    assert set(sink["lag"]) == {"source_to_log_seconds", "log_to_target_seconds", "bytes"}
    assert set(sink["applied"]) == {"inserts", "updates", "deletes", "ddls"}
    tables = {table["name"]: table for table in status["tables"]}
    assert {name: table["rows_loaded"] for name, table in tables.items()} == {
        "public.children": 2000,
        "public.parents": 200,
    }
    assert {table["state"] for table in tables.values()} == {"Table completed"}
    shown = tailrace(tmp_path, "status").out
    assert "public.children" in shown
    assert "2,000" in shown


def test_a_run_for_ever_drains_on_sigterm_and_ends_with_0(source: str, target: str, tmp_path: Path) -> None:
    with started(tmp_path, "run", source, target) as process:
        wait_until(lambda: equal(source, target), 40, "the tables are copied")
        roles = ("capture", "sink-postgres")
        wait_until(lambda: all(pid_of(tmp_path, role) for role in roles), 10, "both processes say that they run")
        children = [pid_of(tmp_path, role) for role in roles]
        process.send(signal.SIGTERM)
        ended = process.end(30)
    assert ended.code == 0, ended.text
    assert not any(is_alive(pid) for pid in children)


def test_children_end_within_seconds_when_the_supervisor_is_killed_and_a_new_run_goes_on(
    source: str, target: str, tmp_path: Path
) -> None:
    with started(tmp_path, "run", source, target) as process:
        roles = ("capture", "sink-postgres")
        wait_until(lambda: all(pid_of(tmp_path, role) for role in roles), 40, "both processes run")
        children = [pid_of(tmp_path, role) for role in roles]
        process.send(signal.SIGKILL)
        wait_until(lambda: not any(is_alive(pid) for pid in children), 10, "the children have ended")
    run_sql(source, "insert into parents values (7000, 'late')")
    assert run(tmp_path, source, target, "--until-current").code == 0
    assert equal(source, target)


@pytest.mark.parametrize("role", ["capture", "sink-postgres"])
def test_a_killed_process_is_started_again_with_a_sentence(source: str, target: str, tmp_path: Path, role: str) -> None:
    with started(tmp_path, "run", source, target) as process:
        wait_until(lambda: equal(source, target) and pid_of(tmp_path, role) > 0, 40, "the tables are copied")
        killed = pid_of(tmp_path, role)
        os.kill(killed, signal.SIGKILL)
        run_sql(source, "insert into parents values (7000, 'meanwhile')")
        wait_until(lambda: equal(source, target), 30, "the change arrives")
        wait_until(lambda: pid_of(tmp_path, role) not in (0, killed), 10, "another process took over")
        process.send(signal.SIGTERM)
        ended = process.end(30)
    assert f"{role} was killed by SIGKILL; starting it again in 0.5 s" in ended.out
    assert ended.code == 0


def test_a_second_run_of_the_same_state_is_refused_and_names_the_holder(
    source: str, target: str, tmp_path: Path
) -> None:
    with started(tmp_path, "run", source, target) as process:
        wait_until(lambda: pid_of(tmp_path, "capture") > 0, 40, "capture runs")
        second = run(tmp_path, source, target, "--json")
        dropped = tailrace(tmp_path, "drop", "--yes")
        assert (second.code, dropped.code) == (1, 1)
        assert f"holder: process {process.pid}" in second.err
        assert json.loads(second.out.splitlines()[-1])["error"]["code"] == "STATE_HELD"
        assert "STATE_HELD" in dropped.err


def test_with_json_every_line_is_an_object(source: str, target: str, tmp_path: Path) -> None:
    ended = run(tmp_path, source, target, "--until-current", "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert lines[0]["event"] == "start"
    assert lines[-1] == {"event": "end", "exit_code": 0, "errors": []}
    assert {line["event"] for line in lines} >= {"start", "status", "end"}


def test_health_and_metrics_are_served_while_it_runs(source: str, target: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def page(path: str) -> str:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
        return ""

    with started(tmp_path, "run", source, target, "--http", f"127.0.0.1:{port}") as process:
        wait_until(lambda: '"ready": true' in page("/readyz"), 40, "the pipeline is ready")
        metric = f'tailrace_up{{pipeline="{name_of(source)}"}} 1.0'
        wait_until(lambda: metric in page("/metrics"), 10, "metrics say so")
        assert page("/healthz") == "ok\n"
        process.send(signal.SIGTERM)
        assert process.end(30).code == 0


def test_emitted_config_runs_and_holds_no_password(source: str, target: str, tmp_path: Path) -> None:
    secret = source.replace("postgres@", "postgres:c4nary@")
    emitted = run(tmp_path, secret, target, "--emit-config", "--tables", "public.parents")
    assert emitted.code == 0
    assert "TAILRACE_SOURCE_PASSWORD" in emitted.err
    assert "c4nary" not in emitted.text
    assert yaml.safe_load(emitted.out)["source"]["tables"] == ["public.parents"]
    path = tmp_path / "pipeline.yaml"
    path.write_text(emitted.out)
    missing = tailrace(tmp_path, "run", str(path), "--until-current")
    assert missing.code == 2
    assert "TAILRACE_SOURCE_PASSWORD is not set" in missing.err
    ended = tailrace(tmp_path, "run", str(path), "--until-current", variables={"TAILRACE_SOURCE_PASSWORD": "c4nary"})
    assert ended.code == 0, ended.text
    assert rows(target, "parents") == rows(source, "parents")
    assert rows(target, "children") == []


def test_capture_and_sink_run_as_two_commands(source: str, target: str, tmp_path: Path) -> None:
    with started(tmp_path, "capture", source, target) as capture:
        applied = tailrace(tmp_path, "sink", source, target, "--until-current")
        assert applied.code == 0, applied.text
        assert equal(source, target)
        capture.send(signal.SIGTERM)
        assert capture.end(30).code == 0


def test_capture_alone_ends_when_the_log_covers_the_source(source: str, tmp_path: Path) -> None:
    captured = tailrace(tmp_path, "capture", source, "--until-current")
    assert captured.code == 0, captured.text
    status = tailrace(tmp_path, "status", "--json").data
    assert {table["rows_loaded"] for table in status["tables"]} == {200, 2000}


def test_run_over_kafka(source: str, target: str, kafka: str, registry: str, tmp_path: Path) -> None:
    log = f"kafka://{kafka}?registry={registry}&partitions=2"
    assert run(tmp_path, source, target, "--log", log, "--until-current").code == 0
    run_sql(source, "update parents set name = 'other' where id < 9; delete from children where id > 1000")
    ended = run(tmp_path, source, target, "--log", log, "--until-current")
    assert ended.code == 0, ended.text
    assert equal(source, target)
    assert tailrace(tmp_path, "status", "--json").data["log"]["kind"] == "kafka"


def test_tail_prints_changes_and_leaves_nothing_behind(source: str, tmp_path: Path) -> None:
    before = publications(source)
    with started(tmp_path, "tail", source, "--json", "--tables", "public.parents") as process:
        wait_until(lambda: len(slots(source)) == 1, 30, "tail has a slot")
        wait_until(lambda: streaming(source), 30, "tail streams")
        run_sql(source, "insert into parents (id, name) values (300, 'tailed'); delete from children where id = 1")
        wait_until(lambda: flushed(source), 30, "tail has read it")
        process.send(signal.SIGINT)
        ended = process.end(30)
    assert ended.code == 0, ended.text
    (event,) = [json.loads(line) for line in ended.out.splitlines()]
    assert (event["op"], event["key"], event["after"]["name"]) == ("c", {"id": 300}, "tailed")
    assert slots(source) == []
    assert publications(source) == before
    assert not (tmp_path / "tailrace").exists()


def test_a_killed_tail_leaves_no_slot_and_its_publication_goes_with_the_next_tail(source: str, tmp_path: Path) -> None:
    before = publications(source)
    with started(tmp_path, "tail", source) as killed:
        wait_until(lambda: streaming(source), 60, "tail streams")
        left = [name for name in publications(source) if name not in before]
        assert len(left) == 1
        with started(tmp_path, "tail", source) as other:
            wait_until(lambda: len(slots(source)) == 2, 60, "a second one has a slot")
            assert left[0] in publications(source), "a living tail lost its publication"
            killed.send(signal.SIGKILL)
            wait_until(lambda: len(slots(source)) == 1, 30, "the slot of the killed one is gone")
            other.send(signal.SIGKILL)
        wait_until(lambda: slots(source) == [], 30, "no slot is left")
    assert len(publications(source)) == len(before) + 2
    with started(tmp_path, "tail", source) as process:
        wait_until(lambda: streaming(source), 60, "tail streams")
        assert len(publications(source)) == len(before) + 1
        process.send(signal.SIGINT)
        assert process.end(30).code == 0
    assert publications(source) == before


def test_tail_ends_by_name_when_it_would_miss_changes(source: str, tmp_path: Path) -> None:
    before = publications(source)
    with started(tmp_path, "tail", source) as process:
        wait_until(lambda: streaming(source), 60, "tail streams")
        # Before it has started to stream nothing was missed, and it begins again by itself.
        wait_until(lambda: replicating(source), 60, "it has begun")
        run_sql(
            source,
            "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()",
        )
        ended = process.end(60)
    assert ended.code == 5, ended.text
    assert "SLOT_LOST: the connection was lost" in ended.err
    assert publications(source) == before


def replicating(url: str) -> bool:
    query = "select true from pg_stat_replication where state = 'streaming' and pid in"
    mine = "select active_pid from pg_replication_slots where database = current_database()"
    return values(url, f"{query} ({mine})") == [True]


def streaming(url: str) -> bool:
    return values(url, "select active from pg_replication_slots where database = current_database()") == [True]


def flushed(url: str) -> bool:
    """Everything committed so far is confirmed by the reader of the only slot."""
    query = "select confirmed_flush_lsn >= pg_current_wal_flush_lsn() from pg_replication_slots"
    return values(url, f"{query} where database = current_database()") == [True]


def test_drop_removes_slot_publication_progress_and_state(source: str, target: str, tmp_path: Path) -> None:
    slot = f"tailrace_{name_of(source)}"
    assert run(tmp_path, source, target, "--until-current").code == 0
    assert slots(source) == [slot]
    assert values(target, "select count(*) from tailrace.progress") == [1]
    asked = tailrace(tmp_path, "drop", "--name", name_of(source))
    assert asked.code == 2
    assert f"will remove replication slot {slot}" in asked.err
    assert slots(source) == [slot]
    dropped = tailrace(tmp_path, "drop", "--name", name_of(source), "--yes", "--json")
    assert dropped.code == 0, dropped.text
    assert f"dropped replication slot {slot}" in dropped.data["removed"]
    assert slots(source) == []
    assert publications(source) == []
    assert values(target, "select count(*) from tailrace.progress") == [0]
    assert not (tmp_path / "tailrace" / name_of(source)).exists()
    assert equal(source, target)


def test_check_prints_every_finding_at_once_with_its_remedy(tmp_path: Path) -> None:
    with private_server(SERVER, config="wal_level = replica") as server:
        run_sql(server.url, "create table keyless (a int); create table keyed (a int primary key)")
        words = ("check", server.url, server.url)
        ended = tailrace(tmp_path, *words, "--json")
        assert ended.code == 3
        errors = {f["code"]: f["remedy"] for f in ended.data["findings"] if f["level"] == "error"}
        assert any("wal_level" in remedy for remedy in errors.values())
        assert any("REPLICA IDENTITY" in remedy for remedy in errors.values())
        shown = tailrace(tmp_path, *words)
        assert shown.code == 3
        assert all(remedy.splitlines()[0] in shown.err for remedy in errors.values())
        refused = run(tmp_path, server.url, server.url)
        assert refused.code == 3
        assert slots(server.url) == []


def test_check_says_ready(source: str, target: str, tmp_path: Path) -> None:
    ended = tailrace(tmp_path, "check", source, target)
    assert ended.code == 0, ended.text
    assert ended.out.startswith("ready: 2 tables")
    assert slots(source) == []


def test_an_unreachable_source_or_target_is_given_up_after_the_connect_timeout(
    source: str, target: str, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"postgresql://u@127.0.0.1:{closed.getsockname()[1]}/x"
        for words in ((nobody, target), (source, nobody)):
            began = time.monotonic()
            ended = run(tmp_path, *words, "--connect-timeout", "2")
            assert ended.code == 1, ended.text
            assert "_UNAVAILABLE" in ended.err
            assert 1.5 < time.monotonic() - began < 20
    assert slots(source) == []


def test_the_password_is_printed_nowhere(tmp_path: Path) -> None:
    hba = "host all clerk 127.0.0.1/32 scram-sha-256"
    with private_server(SERVER, hba=hba) as server:
        run_sql(server.url, "create role clerk superuser login password 'c4nary'", "create database copy", TABLES)
        source = server.url.replace("postgres@", "clerk:c4nary@")
        target = source.rpartition("/")[0] + "/copy"
        outputs = [run(tmp_path, source, target, "--until-current", "--log-level", "debug")]
        assert outputs[0].code == 0, outputs[0].text
        wrong = source.replace("c4nary", "c4nary-wrong")
        outputs.append(run(tmp_path / "other", wrong, target, "--connect-timeout", "1"))
        outputs.append(tailrace(tmp_path, "check", wrong, target, "--connect-timeout", "0", "--json"))
        outputs.append(tailrace(tmp_path, "tail", wrong, "--connect-timeout", "0"))
        outputs.append(tailrace(tmp_path, "status", "--json"))
        outputs.append(tailrace(tmp_path, source))
        outputs.append(tailrace(tmp_path, "tail", source, source))
        outputs.append(tailrace(tmp_path, "status", source))
        passwords = {"TAILRACE_SOURCE_PASSWORD": "c4nary", "TAILRACE_POSTGRES_PASSWORD": "c4nary"}
        for path in (tmp_path / "tailrace").rglob("*"):
            assert path.is_dir() or b"c4nary" not in path.read_bytes(), path
        outputs.append(tailrace(tmp_path, "drop", "--yes"))
        assert outputs[-1].code == 2, outputs[-1].text
        assert "PASSWORD_MISSING" in outputs[-1].err
        for variable in passwords:
            assert f"export {variable}=" in outputs[-1].err
        assert "will remove" not in outputs[-1].err
        outputs.append(tailrace(tmp_path, "drop", "--yes", variables=passwords))
        assert outputs[-1].code == 0, outputs[-1].text
    for output in outputs:
        assert "c4nary" not in output.text


def test_a_wrong_word_is_a_usage_error(tmp_path: Path) -> None:
    assert tailrace(tmp_path, "run").code == 2
    assert tailrace(tmp_path, "fly").code == 2
    assert tailrace(tmp_path, "run", "--nope").code == 2
    assert tailrace(tmp_path, "run", "nowhere.yaml").code == 2
    assert tailrace(tmp_path, "status", "--name", "nobody").code == 2


def test_full_load_ends_by_itself(source: str, target: str, tmp_path: Path) -> None:
    ended = run(tmp_path, source, target, "--mode", "full-load")
    assert ended.code == 0, ended.text
    assert equal(source, target)
    assert slots(source) == []


def test_cdc_begins_now(source: str, target: str, tmp_path: Path) -> None:
    with started(tmp_path, "run", source, target, "--mode", "cdc") as process:
        wait_until(lambda: streaming(source), 40, "capture streams")
        run_sql(source, "insert into parents values (300, 'new', null)")
        wait_until(lambda: len(rows(target, "parents")) == 1, 30, "the change arrives")
        process.send(signal.SIGTERM)
        assert process.end(30).code == 0
    assert rows(target, "children") == []


def test_postgres_goes_into_the_mysql_database_that_the_target_names(
    source: str, mysql_database: Callable[[str], str], tmp_path: Path
) -> None:
    target = mysql_database("MARIADB118")
    assert run(tmp_path, source, target, "--until-current").code == 0
    run_sql(source, "update parents set name = 'changed' where id = 7; delete from children where id > 100")
    ended = run(tmp_path, source, target, "--until-current")
    assert ended.code == 0, ended.text
    expected = values(source, "select count(*) || ' ' || sum(price) from children")
    assert mysql_values(target, "select concat(count(*), ' ', sum(price)) from children") == expected
    assert mysql_values(target, "select name from parents where id = 7") == ["changed"]
    assert "TAILRACE_MYSQL_PASSWORD is not set" in tailrace(tmp_path, "drop", "--yes").err
    dropped = tailrace(tmp_path, "drop", "--yes", variables={"TAILRACE_MYSQL_PASSWORD": "pw"})
    assert dropped.code == 0, dropped.text
    assert slots(source) == []
    assert mysql_values(target, f"select count(*) from tailrace.progress where pipeline = '{name_of(source)}'") == [0]


def test_mariadb_arrives_in_postgres_under_its_databases_name(
    target: str, mysql_database: Callable[[str], str], tmp_path: Path
) -> None:
    source = mysql_database("MARIADB118")
    mysql_values(source, "create table t (id int primary key, price decimal(8,2), at datetime(3))")
    mysql_values(source, "insert into t values (1, 2.50, '2024-02-29 01:02:03.004'), (2, null, null)")
    assert run(tmp_path, source, target, "--until-current").code == 0
    mysql_values(source, "update t set price = 9.99 where id = 2")
    ended = run(tmp_path, source, target, "--until-current")
    assert ended.code == 0, ended.text
    assert rows(target, f"{name_of(source)}.t") == ['(1,2.50,"2024-02-29 01:02:03.004")', "(2,9.99,)"]


def mysql_values(url: str, query: str) -> list[Any]:
    """Autocommit; the first column."""
    parts = parse_database_url(url)
    connection = pymysql.connect(
        host=parts.host,
        port=parts.port,
        user=parts.user,
        password=parts.password.reveal() if parts.password else "",
        database=parts.database,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        return [row[0] for row in cursor.fetchall()]
