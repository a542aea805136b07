"""What a pipeline is doing, gathered from the status files of its processes: `status --json`, readiness and metrics.

It works with no process running: the files keep the last word of each, and a process counts as alive only while it
holds its lock. Shape: interfaces.md, "status --json"; table states are the words of AWS DMS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tailrace.processes import CAPTURE, sink_role
from tailrace.state import StateFolder
from tailrace_schemas.log_uri import KafkaLogUrl
from tailrace_schemas.metrics import METRICS, MetricName
from tailrace_schemas.settings import PipelineSettings
from tailrace_schemas.wire import is_compiled

RUN = "run"
_NO_LAG = {"source_to_log_seconds": 0.0, "log_to_target_seconds": 0.0, "bytes": 0}
_NOTHING_APPLIED = {"inserts": 0, "updates": 0, "deletes": 0, "ddls": 0}


def pipeline_status(settings: PipelineSettings, state: StateFolder) -> dict[str, Any]:
    """The whole status, as `status --json` prints it."""
    capture = _process(state, CAPTURE)
    sinks = [_process(state, sink_role(sink.name)) | {"name": sink.name} for sink in settings.sinks]
    run = state.read_status(RUN)
    return {
        "pipeline": settings.name,
        "state": _pipeline_state(state, run, [capture, *sinks]),
        "sentence": run.get("sentence", "") if state.is_locked() else "",
        "mode": settings.mode,
        "source": {
            "kind": settings.source.url.engine,
            "position": capture.get("position", ""),
            "identity": capture.get("identity", {}),
            "harm": capture.get("harm", {}),
        },
        "log": {
            "kind": "kafka" if isinstance(settings.log, KafkaLogUrl) else "sqlite",
            "position": capture.get("seq", -1),
            "bytes": _log_bytes(settings, state),
        },
        "capture": {
            "state": capture["state"],
            "sentence": capture.get("sentence", ""),
            "transactions": capture.get("transactions", 0),
            "restarts": run.get("restarts", {}).get(CAPTURE, 0),
            "error": capture.get("error"),
        },
        "sinks": [_sink(sink, run) for sink in sinks],
        "tables": [_table(table, sinks) for table in capture.get("tables", ())],
        "compiled": is_compiled(),
    }


def _process(state: StateFolder, role: str) -> dict[str, Any]:
    """The last word of a process; `state` is true now: what is not alive has stopped or failed."""
    data = state.read_status(role)
    data["alive"] = state.is_locked(role)
    said = data.get("state", "stopped")
    if not data["alive"]:
        data["state"] = "failed" if said == "failed" else "stopped"
    else:
        data["state"] = said
    return data


def _pipeline_state(state: StateFolder, run: dict[str, Any], processes: list[dict[str, Any]]) -> str:
    if state.is_locked():
        return str(run.get("state", "starting"))
    states = {process["state"] for process in processes}
    for word in ("failed", "running", "starting", "stopping"):
        if word in states:
            return word
    return "stopped"


def _log_bytes(settings: PipelineSettings, state: StateFolder) -> int:
    """Of an embedded log, its WAL included; Kafka does not tell."""
    if isinstance(settings.log, KafkaLogUrl):
        return 0
    path = state.log_file if settings.log.path is None else Path(settings.log.path)
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _sink(sink: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": sink["name"],
        "state": sink["state"],
        "position": sink.get("position", ""),
        "lag": sink.get("lag", _NO_LAG),
        "applied": sink.get("applied", _NOTHING_APPLIED),
        "rows_loaded": sink.get("rows_loaded", 0),
        "applied_seq": sink.get("applied_seq", -1),
        "retries": sink.get("retries", 0),
        "set_aside": sink.get("set_aside", 0),
        "stale_keys": sink.get("stale_keys", 0),
        "restarts": run.get("restarts", {}).get(sink_role(sink["name"]), 0),
        "error": sink.get("error"),
    }


def _table(table: dict[str, Any], sinks: list[dict[str, Any]]) -> dict[str, Any]:
    """One table: capture's view of its load, and per sink what was applied to it."""
    name = table["name"]
    applied = {sink["name"]: sink["tables"][name] for sink in sinks if name in sink.get("tables", {})}
    return {
        "name": name,
        "state": dms_state(table),
        "rows_loaded": table["rows_loaded"],
        "rows_estimate": table["rows_estimate"],
        "chunks_done": table["chunks_done"],
        "chunks_total": table["chunks_total"],
        "applied": applied,
        "error": table["error"] or next((one["error"] for one in applied.values() if one.get("error")), None),
        "last_schema_change": next(filter(None, (one.get("last_schema_change") for one in applied.values())), None),
    }


def dms_state(table: dict[str, Any]) -> str:
    """AWS DMS User Guide, "Table state during tasks"."""
    match table["state"]:
        case "stopped":
            return "Table error"
        case "streaming":
            return "Table completed"
        case _ if table["chunks_done"] == 0 and table["rows_loaded"] == 0:
            return "Before load"
        case _:
            return "Full load"


def not_ready(status: dict[str, Any]) -> list[str]:
    """Why the pipeline is not ready, a sentence each; empty when capture and every sink run."""
    out = [] if status["capture"]["state"] == "running" else [f"capture is {status['capture']['state']}"]
    out += [f"sink {sink['name']} is {sink['state']}" for sink in status["sinks"] if sink["state"] != "running"]
    return out


class StatusCollector(Collector):
    """The metrics of one status; `tailrace_schemas.metrics` declares them."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        values = dict(_samples(self._status))
        for metric in METRICS:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.meaning, labels=("pipeline", *metric.labels))
            for labels, value in values[metric.name]:
                family.add_metric([self._status["pipeline"], *labels], value)
            yield family


_HARM: dict[str, MetricName] = {
    "wal_kept_bytes": "tailrace_wal_kept_bytes",
    "wal_left_bytes": "tailrace_wal_left_bytes",
    "binlog_behind_bytes": "tailrace_binlog_behind_bytes",
    "binlog_left_seconds": "tailrace_binlog_left_seconds",
    "snapshot_seconds": "tailrace_snapshot_seconds",
    "load_paused": "tailrace_load_paused",
}

Samples = list[tuple[tuple[str, ...], float]]


def _samples(status: dict[str, Any]) -> Iterator[tuple[MetricName, Samples]]:
    """Every metric's values: (label values, value)."""
    sinks = status["sinks"]
    processes = [(CAPTURE, status["capture"]), *((sink_role(sink["name"]), sink) for sink in sinks)]

    def of_sinks(*path: str) -> Samples:
        return [((sink["name"],), _dig(sink, path)) for sink in sinks]

    yield "tailrace_up", [((), float(not not_ready(status)))]
    yield "tailrace_process_up", [((name,), float(process["state"] == "running")) for name, process in processes]
    yield "tailrace_process_restarts", [((name,), process["restarts"]) for name, process in processes]
    yield "tailrace_source_to_log_seconds", of_sinks("lag", "source_to_log_seconds")
    yield "tailrace_log_to_target_seconds", of_sinks("lag", "log_to_target_seconds")
    yield "tailrace_behind_bytes", of_sinks("lag", "bytes")
    yield "tailrace_log_bytes", [((), status["log"]["bytes"])]
    yield "tailrace_log_commit_sequence", [((), status["log"]["position"])]
    yield "tailrace_sink_commit_sequence", of_sinks("applied_seq")
    yield "tailrace_source_transactions", [((), status["capture"]["transactions"])]
    yield "tailrace_applied", [((s["name"], word), n) for s in sinks for word, n in s["applied"].items()]
    yield "tailrace_rows_loaded", [((table["name"],), table["rows_loaded"]) for table in status["tables"]]
    yield "tailrace_tables", [((s,), n) for s, n in Counter(table["state"] for table in status["tables"]).items()]
    yield "tailrace_sink_retries", of_sinks("retries")
    yield "tailrace_dead_letters", of_sinks("set_aside")
    yield "tailrace_stale_keys", of_sinks("stale_keys")
    harm = status["source"]["harm"]
    for word in _HARM:
        value = harm.get(word)
        yield _HARM[word], [] if value is None else [((), float(value))]


def _dig(data: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = data
    for key in path:
        value = value[key]
    return float(value)


def metrics_page(status: dict[str, Any]) -> bytes:
    """The text of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    return generate_latest(registry)
