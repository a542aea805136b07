"""What a process writes into its status file."""

from pathlib import Path

import pytest

from tailrace.lifeline import Lifeline
from tailrace.processes import ProcessOptions, SinkReport, StatusWriter, capture_process, status_reporter
from tailrace.state import StateFolder
from tailrace_schemas.errors import StopError
from tailrace_schemas.settings import SettingsError, parse_settings
from tailrace_schemas.table import TableId
from tailrace_sinks.sink import Applied, TableCounts
from tailrace_sinks.status import SinkStatus

ORDERS = TableId("shop", "orders")


def test_counts_of_a_sink_go_on_where_the_process_before_stood() -> None:
    first = SinkStatus("a")
    first.batch_applied(1, "lsn:0/1", Applied({ORDERS: TableCounts(loaded=5, inserts=2, updates=1)}), 8, 100)
    before = SinkReport(first, {})()
    second = SinkStatus("a")
    report = SinkReport(second, before)
    assert report()["applied"] == {"inserts": 2, "updates": 1, "deletes": 0, "ddls": 0}
    second.batch_applied(2, "lsn:0/2", Applied({ORDERS: TableCounts(deletes=4)}), 4, 100)
    for _ in range(2):  # looking does not count
        now = report()
    assert now["applied"] == {"inserts": 2, "updates": 1, "deletes": 4, "ddls": 0}
    assert now["rows_loaded"] == 5
    assert now["tables"]["shop.orders"]["deletes"] == 4
    assert now["tables"]["shop.orders"]["rows_loaded"] == 5
    assert now["tables"]["shop.orders"]["error"] is None


def test_a_schema_change_keeps_the_position_at_which_it_was_met() -> None:
    status = SinkStatus("a")
    report = SinkReport(status, {})
    change = Applied({ORDERS: TableCounts(ddls=1, last_ddl="ALTER TABLE x", last_action="left out")})
    status.batch_applied(1, "lsn:0/1", change, 0, 0)
    met = {"ddl": "ALTER TABLE x", "action": "left out", "position": "lsn:0/1"}
    assert report()["tables"]["shop.orders"]["last_schema_change"] == met
    status.batch_applied(2, "lsn:0/2", Applied({ORDERS: TableCounts(inserts=1)}), 0, 0)
    after = report()
    assert after["tables"]["shop.orders"]["last_schema_change"] == met
    later = SinkReport(SinkStatus("a"), after)()
    assert later["tables"]["shop.orders"]["last_schema_change"] == met


def test_a_status_file_is_written_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.make()
    word = {"state": "running"}
    writer = StatusWriter(state, "capture", lambda: dict(word), known=False)
    writer.start()
    assert state.read_status("capture")["was_running"]
    writer.finish({"state": "stopped", "finished": True})
    assert (state.read_status("capture")["state"], state.read_status("capture")["finished"]) == ("stopped", True)


def test_the_error_of_a_child_is_left_for_its_supervisor(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.make()
    status_reporter(state, "sink-a")(StopError("m", code="C", detail="d", hint="h"))
    assert state.read_status("sink-a")["error"] == {"code": "C", "message": "m: d", "remedy": "h"}


def test_a_process_that_cannot_start_says_why_and_gives_its_lock_back(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    settings = parse_settings({"name": "s", "source": {"url": "postgresql://u:${env:NOT_SET}@localhost/d"}})
    with pytest.raises(SettingsError):
        capture_process(settings, state, ProcessOptions(), Lifeline())
    assert not state.is_locked("capture")
    assert state.read_status("capture")["state"] == "failed"
    assert "NOT_SET" in state.read_status("capture")["error"]["message"]
