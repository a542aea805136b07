"""Reading on where the log stands, while the slot stands before it: what a kill between commit record and feedback
leaves behind."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import LogReading, postgres_source, running_capture
from fix_servers import wait_until

import tailrace_capture.feed
from tailrace_capture.postgres.replication import ReplicationStream
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.position import parse_position

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("version", ["POSTGRES14", "POSTGRES18"])
def test_position_never_goes_back_when_the_slot_stands_behind_the_log(
    version: str, postgres_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_database(version)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    monkeypatch.setattr(ReplicationStream, "feedback", lambda stream, lsn: None)  # the slot learns nothing
    monkeypatch.setattr(tailrace_capture.feed, "IDLE_SECONDS", 0.0)  # as on a machine where starting took longer
    with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture, psycopg.connect(url) as connection:
        wait_until(lambda: capture.status.seq >= 0, 30, "capture runs")
        for n in range(20):
            connection.execute("INSERT INTO a VALUES (%s)", (n,))
            connection.commit()
        wait_until(lambda: capture.status.transactions >= 20, 30, "the transactions are in the log")
    before = len(LogReading(log).records())
    with running_capture(postgres_source(url, tmp_path / "spool"), log):
        # The server says at once how far it has read, which is not as far as the log.
        wait_until(lambda: len(LogReading(log).records()) > before, 30, "a further commit record")
    positions = [parse_position(record.position) for record in LogReading(log).records()]
    assert all(later.contains(earlier) for earlier, later in pairwise(positions))
