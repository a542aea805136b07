"""Status, readiness and metrics from status files alone."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tailrace.commands import print_status
from tailrace.http_server import parse_address, serve
from tailrace.monitor import metrics_page, not_ready, pipeline_status
from tailrace.state import StateFolder
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.metrics import METRICS
from tailrace_schemas.settings import PipelineSettings, parse_settings

CAPTURE: dict[str, Any] = {
    "process": "capture",
    "state": "running",
    "position": "lsn:0/10",
    "identity": {"timeline": "1"},
    "seq": 7,
    "transactions": 5,
    "error": None,
    "tables": [
        {"name": "public.a", "state": "loading", "rows_loaded": 0, "rows_estimate": 9, "chunks_done": 0,
         "chunks_total": 3, "error": None},
        {"name": "public.b", "state": "loading", "rows_loaded": 5, "rows_estimate": 9, "chunks_done": 1,
         "chunks_total": 3, "error": None},
        {"name": "public.c", "state": "streaming", "rows_loaded": 9, "rows_estimate": 9, "chunks_done": 0,
         "chunks_total": 0, "error": None},
        {"name": "public.d", "state": "stopped", "rows_loaded": 0, "rows_estimate": 0, "chunks_done": 0,
         "chunks_total": 0, "error": {"code": "X", "message": "m", "remedy": "r"}},
    ],
}  # fmt: skip
SINK: dict[str, Any] = {
    "process": "sink-a",
    "state": "running",
    "position": "lsn:0/8",
    "lag": {"source_to_log_seconds": 0.5, "log_to_target_seconds": 0.25, "bytes": 10},
    "applied": {"inserts": 1, "updates": 2, "deletes": 3, "ddls": 0},
    "applied_seq": 6,
    "retries": 4,
    "error": None,
    "tables": {"public.c": {"inserts": 1, "updates": 2, "deletes": 3, "error": None}},
}


@pytest.fixture
def settings() -> PipelineSettings:
    return parse_settings(
        {"name": "shop", "source": {"url": "postgresql://h/d"}, "sinks": [{"name": "a", "url": "postgresql://h/t"}]}
    )


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path)
    folder.make()
    return folder


@contextmanager
def alive(state: StateFolder) -> Iterator[None]:
    """Capture and the sink run: they hold their locks and have written their files."""
    locks = [state.lock("capture"), state.lock("sink-a")]
    state.write_status("capture", CAPTURE)
    state.write_status("sink-a", SINK)
    yield
    for lock in locks:
        lock.release()


def test_nothing_has_ever_run(settings: PipelineSettings, state: StateFolder) -> None:
    status = pipeline_status(settings, state)
    assert (status["state"], status["tables"], status["sinks"][0]["state"]) == ("stopped", [], "stopped")
    assert not_ready(status) == ["capture is stopped", "sink a is stopped"]


def test_the_status_of_a_running_pipeline(settings: PipelineSettings, state: StateFolder) -> None:
    with alive(state):
        status = pipeline_status(settings, state)
    assert status["state"] == "running"
    identity = {"timeline": "1"}
    assert status["source"] == {"kind": "postgresql", "position": "lsn:0/10", "identity": identity, "harm": {}}
    assert status["log"]["kind"] == "sqlite"
    assert status["log"]["position"] == 7
    assert [table["state"] for table in status["tables"]] == [
        "Before load",
        "Full load",
        "Table completed",
        "Table error",
    ]
    assert status["tables"][2]["applied"]["a"]["updates"] == 2
    assert status["tables"][3]["error"] == {"code": "X", "message": "m", "remedy": "r"}
    assert status["sinks"][0]["lag"]["bytes"] == 10
    assert not_ready(status) == []


def test_status_tells_a_person_what_stopped_a_table_where_and_what_fixes_it(
    settings: PipelineSettings, state: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with alive(state):
        stopped = {"code": "LOG", "message": "off", "remedy": "[mysqld] log_bin", "position": "lsn:0/9"}
        tables = [{**CAPTURE["tables"][3], "error": stopped}]
        state.write_status("capture", {**CAPTURE, "tables": tables})
        print_status(pipeline_status(settings, state))
    shown = capsys.readouterr().out
    assert "LOG [public.d]: off\n  position: lsn:0/9\n  hint: [mysqld] log_bin\n" in shown


HARM: dict[str, Any] = {
    "slot": "tailrace_shop", "wal_kept_bytes": 12_000_000_000, "wal_left_bytes": 3_000_000_000,
    "wal_limit_bytes": 15_000_000_000, "wal_status": "extended", "binlog_behind_bytes": None,
    "binlog_left_seconds": None, "snapshot_seconds": 61, "load_paused": True,
    "warnings": [{"code": "WAL_KEPT", "message": "slot tailrace_shop keeps 12,000.0 MB", "remedy": "give it space"}],
}  # fmt: skip


def test_what_the_source_keeps_is_shown_to_people_and_to_prometheus(
    settings: PipelineSettings, state: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with alive(state):
        state.write_status("capture", {**CAPTURE, "harm": HARM | {"measured": time.time() - 1200}})
        status = pipeline_status(settings, state)
        print_status(status)
    shown = " ".join(capsys.readouterr().out.split())
    assert "slot tailrace_shop keeps 12.0 GB of WAL (extended, slot lost after 3.0 GB more)" in shown
    assert "a snapshot open for 61 s, the load waits, measured 20 min ago" in shown
    assert "WAL_KEPT: slot tailrace_shop keeps 12,000.0 MB" in shown
    assert "hint: give it space" in shown
    page = metrics_page(status).decode()
    assert 'tailrace_wal_kept_bytes{pipeline="shop"} 1.2e+10' in page
    assert 'tailrace_load_paused{pipeline="shop"} 1.0' in page
    assert "tailrace_binlog_left_seconds{" not in page


def test_a_dead_process_is_stopped_or_failed_and_its_last_word_stays(
    settings: PipelineSettings, state: StateFolder
) -> None:
    with alive(state):
        state.write_status("sink-a", {**SINK, "state": "failed", "error": {"code": "E", "message": "", "remedy": ""}})
    status = pipeline_status(settings, state)
    assert status["capture"]["state"] == "stopped"
    assert status["source"]["position"] == "lsn:0/10"
    assert (status["state"], status["sinks"][0]["state"], status["sinks"][0]["error"]["code"]) == (
        "failed",
        "failed",
        "E",
    )


def test_the_metrics_page_holds_every_declared_metric_and_no_other(
    settings: PipelineSettings, state: StateFolder
) -> None:
    with alive(state):
        page = metrics_page(pipeline_status(settings, state)).decode()
    declared = {metric.name for metric in METRICS}
    assert {
        line.split()[2].removesuffix("_total") for line in page.splitlines() if line.startswith("# TYPE")
    } == declared
    assert 'tailrace_up{pipeline="shop"} 1.0' in page
    assert 'tailrace_applied_total{operation="deletes",pipeline="shop",sink="a"} 3.0' in page
    assert 'tailrace_tables{pipeline="shop",state="Table error"} 1.0' in page


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_readiness_and_metrics_are_served(settings: PipelineSettings, state: StateFolder) -> None:
    server = serve(("127.0.0.1", 0), lambda: pipeline_status(settings, state))
    port = server.server_address[1]
    try:
        assert get(port, "/healthz") == (200, "ok\n")
        code, body = get(port, "/readyz")
        assert (code, json.loads(body)["reasons"]) == (503, ["capture is stopped", "sink a is stopped"])
        with alive(state):
            assert get(port, "/readyz?x=1")[0] == 200
            assert "tailrace_up" in get(port, "/metrics")[1]
        assert get(port, "/else")[0] == 404
    finally:
        server.shutdown()
        server.server_close()


def test_a_container_is_ready_when_its_own_process_is(settings: PipelineSettings, state: StateFolder) -> None:
    server = serve(("127.0.0.1", 0), lambda: pipeline_status(settings, state), only="sink-a")
    port = server.server_address[1]
    lock = state.lock("sink-a")
    try:
        state.write_status("sink-a", SINK)
        assert get(port, "/readyz")[0] == 200
    finally:
        lock.release()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("text", ["", "9187", "host:", ":9187", "h:x", "h:70000"])
def test_an_address_is_host_and_port(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


def test_an_address_may_be_ipv6() -> None:
    assert parse_address("[::1]:9187") == ("::1", 9187)
