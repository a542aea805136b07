"""The metrics of /metrics: every name, kind, meaning and label stands here and nowhere else.

Names follow the Prometheus conventions (base units, `_total` for counters). docs and dashboards use this list; a test
holds the page to it. All values come from the status files of a pipeline's processes (`tailrace/monitor.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricKind = Literal["gauge", "counter"]

MetricName = Literal[
    "tailrace_up",
    "tailrace_process_up",
    "tailrace_process_restarts",
    "tailrace_source_to_log_seconds",
    "tailrace_log_to_target_seconds",
    "tailrace_behind_bytes",
    "tailrace_log_bytes",
    "tailrace_log_commit_sequence",
    "tailrace_sink_commit_sequence",
    "tailrace_source_transactions",
    "tailrace_applied",
    "tailrace_rows_loaded",
    "tailrace_tables",
    "tailrace_sink_retries",
    "tailrace_dead_letters",
    "tailrace_stale_keys",
    "tailrace_wal_kept_bytes",
    "tailrace_wal_left_bytes",
    "tailrace_binlog_behind_bytes",
    "tailrace_binlog_left_seconds",
    "tailrace_snapshot_seconds",
    "tailrace_load_paused",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` beside `pipeline`, which every metric has. A counter's samples end in `_total`."""

    name: MetricName
    kind: MetricKind
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: tuple[Metric, ...] = (
    Metric("tailrace_up", "gauge", "1 while capture and every sink run, else 0"),
    Metric("tailrace_process_up", "gauge", "1 while this process runs, else 0", ("process",)),
    Metric("tailrace_process_restarts", "counter", "times the supervisor started this process again", ("process",)),
    Metric("tailrace_source_to_log_seconds", "gauge", "source commit to log commit", ("sink",)),
    Metric("tailrace_log_to_target_seconds", "gauge", "log commit to target commit", ("sink",)),
    Metric("tailrace_behind_bytes", "gauge", "estimated bytes in the log that the sink has not applied", ("sink",)),
    Metric("tailrace_log_bytes", "gauge", "size of the embedded log on disk"),
    Metric("tailrace_log_commit_sequence", "gauge", "sequence of the newest commit record of capture"),
    Metric("tailrace_sink_commit_sequence", "gauge", "sequence up to which the sink has applied the log", ("sink",)),
    Metric("tailrace_source_transactions", "counter", "source transactions read since capture started"),
    Metric("tailrace_applied", "counter", "changes applied by the sink", ("sink", "operation")),
    Metric("tailrace_rows_loaded", "gauge", "rows of the first copy that are in the log", ("table",)),
    Metric("tailrace_tables", "gauge", "tables by state", ("state",)),
    Metric("tailrace_sink_retries", "counter", "times the sink met trouble that passes", ("sink",)),
    Metric("tailrace_dead_letters", "gauge", "events that the sink has set aside, ever", ("sink",)),
    Metric("tailrace_stale_keys", "gauge", "rows at the target that wait for a later event or a replay", ("sink",)),
    Metric("tailrace_wal_kept_bytes", "gauge", "WAL that the slot keeps at a Postgres source"),
    Metric("tailrace_wal_left_bytes", "gauge", "WAL that may still be written until the source gives the slot up"),
    Metric("tailrace_binlog_behind_bytes", "gauge", "binary log of the source that is not read yet"),
    Metric("tailrace_binlog_left_seconds", "gauge", "time until the binary log that is read next may be purged"),
    Metric("tailrace_snapshot_seconds", "gauge", "age of the oldest snapshot that the load holds open at the source"),
    Metric("tailrace_load_paused", "gauge", "1 while the load waits because of max_wal_kept or min_binlog_left"),
)
