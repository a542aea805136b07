"""What is asked of the source for a change is never older than the change: unchanged TOAST of a row that was moved."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest
from fix_capture import LogReading, postgres_source, rebuild, running_capture
from fix_servers import private_server, wait_until

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("key_was_taken", [False, True])
@pytest.mark.case("E18", verdict="=", on="POSTGRES18")
def test_a_value_asked_for_is_not_older_than_its_change(tmp_path: Path, key_was_taken: bool) -> None:
    """A commit that waits for a standby is in the stream, and not yet visible (hard case E13)."""
    config = "synchronous_standby_names = 'nobody'\nsynchronous_commit = local"
    with private_server("POSTGRES18", config=config) as server, psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("create table t (id int primary key, body text)")
        admin.execute("alter table t alter body set storage external")
        admin.execute("insert into t values (1, repeat('a', 5000))")
        if key_was_taken:
            admin.execute("insert into t values (2, repeat('old', 5000))")
        log = EmbeddedLog(tmp_path / "log.db", "t")

        def move() -> None:
            with psycopg.connect(server.url) as writer:
                writer.execute("set synchronous_commit = on")
                writer.execute("delete from t where id = 2")
                writer.execute("update t set id = 2 where id = 1")

        def commit_waits() -> bool:
            return bool(admin.execute("select from pg_stat_activity where wait_event = 'SyncRep'").fetchall())

        def is_sent() -> bool:
            query = "select from pg_stat_replication where sent_lsn >= pg_current_wal_flush_lsn()"
            return bool(admin.execute(query).fetchall())

        with running_capture(postgres_source(server.url, tmp_path / "spool"), log) as capture:
            wait_until(lambda: any(t.state == "streaming" for t in capture.status.tables.values()), 30, "loaded")
            writer = threading.Thread(target=move)
            writer.start()
            wait_until(commit_waits, 20, "the commit waits for the standby")
            wait_until(is_sent, 20, "the change is in the stream")
            admin.execute("alter system set synchronous_standby_names = ''")
            admin.execute("select pg_reload_conf()")
            writer.join(20)
        with running_capture(postgres_source(server.url, tmp_path / "spool"), log, until_current=True) as capture:
            wait_until(lambda: not capture.thread.is_alive(), 30, "current")
        assert [(r["id"], r["body"]) for r in rebuild(log)["t.public.t"].values()] == [(2, "a" * 5000)]
        assert all(not v["unavailable_columns"] for _, _, v in LogReading(log).events() if v and "op" in v)
