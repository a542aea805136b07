"""Case I1: clocks that jump. What comes first is told by positions alone, and no lag is below zero."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from fix_capture import postgres_source, running_capture
from fix_servers import wait_until

from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.topic import commit_topic
from tailrace_schemas.uri import parse_database_url
from tailrace_sinks import postgres
from tailrace_sinks.service import run_sink
from tailrace_sinks.sink import SinkConfig
from tailrace_sinks.status import SinkStatus

pytestmark = pytest.mark.servers
HOUR = 3600


@pytest.mark.case("I1", verdict="=", on="POSTGRES18")
def test_clocks_that_jump_change_no_order_and_make_no_lag_negative(
    postgres_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of capture and sink goes an hour forth and back between transactions that write the same rows."""
    shift = [0]
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + shift[0] * 1_000_000_000)
    url, target = postgres_database("POSTGRES18"), postgres_database("POSTGRES18")
    log, stop, status = EmbeddedLog(tmp_path / "log.db", "t"), threading.Event(), SinkStatus("copy")
    sink = postgres.open_sink(parse_database_url(target), SinkConfig("p", "copy", commit_topic("t"), log.log_id))
    lags: list[float] = []

    def apply() -> None:
        run_sink(log, sink, name="copy", stop=stop, status=status)

    thread = threading.Thread(target=apply)
    thread.start()
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE a (id int PRIMARY KEY, v int)")
            connection.execute("INSERT INTO a SELECT g, 0 FROM generate_series(1, 20) g")
            with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture:
                wait_until(lambda: [t.state for t in capture.status.tables.values()] == ["streaming"], 30, "loaded")
                for n in range(1, 22):
                    shift[0] = (HOUR, 0, -HOUR)[n % 3]
                    connection.execute("UPDATE a SET v = %s", (n,))
                    connection.execute("DELETE FROM a WHERE id = %s", (n - 1,))
                    wait_until(lambda n=n: capture.status.transactions >= n, 20, "it is streamed")  # type: ignore[misc]
                    lags += [status.source_to_log_seconds, status.log_to_target_seconds]
            wait_until(lambda: status.applied_seq == capture.status.seq, 30, "all is applied")
    finally:
        stop.set()
        thread.join(30)
        sink.close()
        log.close()
    with psycopg.connect(target) as there, psycopg.connect(url) as here:
        query = "SELECT id, v FROM a ORDER BY id"
        assert there.execute(query).fetchall() == here.execute(query).fetchall() == []
    assert min(lags) >= 0
