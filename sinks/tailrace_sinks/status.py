"""How a sink is doing, for the status line, metrics and `tailrace status`; written by its thread, read by any."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

from tailrace_schemas.errors import TailraceError
from tailrace_schemas.table import TableId
from tailrace_sinks.sink import Applied, Progress, TableCounts

State = Literal["starting", "running", "stopping", "stopped", "failed"]


@dataclass(slots=True)
class TableError:
    """What stopped a table: `message` = primary and detail, `remedy` = hint, `position` = what the target holds."""

    code: str
    message: str
    remedy: str
    column: str = ""
    position: str = ""


@dataclass(slots=True)
class SinkStatus:
    """`position` is the text form of what the target holds. Lags are of the last batch, in seconds, and 0 once
    everything in the log is applied. `bytes_behind` is estimated: records announced but not applied times their
    mean size. `set_aside`, `stale_keys`: see `Progress`."""

    name: str
    state: State = "starting"
    position: str = ""
    applied_seq: int = -1
    total: TableCounts = field(default_factory=TableCounts)
    tables: dict[TableId, TableCounts] = field(default_factory=dict)
    errors: dict[TableId, TableError] = field(default_factory=dict)
    last_error: TableError | None = None
    retries: int = 0
    set_aside: int = 0
    stale_keys: int = 0
    _set_aside_before: int | None = None
    source_to_log_seconds: float = 0.0
    log_to_target_seconds: float = 0.0
    bytes_behind: int = 0
    applied_bytes: int = 0
    applied_rows: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def set_state(self, state: State) -> None:
        with self.lock:
            self.state = state

    def opened(self, held: Progress) -> None:
        """The target was reached: what stopped it before is over."""
        with self.lock:
            if self._set_aside_before is None:
                self._set_aside_before = held.set_aside
            self.set_aside, self.stale_keys = held.set_aside, held.stale_keys
            self.state, self.last_error = "running", None
            self.applied_seq, self.position = held.next_seq - 1, held.position

    @property
    def refused_any(self) -> bool:
        """Events were set aside in this process, or rows are stale since one before."""
        return self.stale_keys > 0 or self.set_aside > (self._set_aside_before or 0)

    def batch_applied(self, seq: int, position: str, applied: Applied, rows: int, size: int) -> None:
        """`rows` and `size`: records read from the log, tombstones included, and their bytes."""
        with self.lock:
            self.applied_seq, self.position = seq, position
            self.applied_rows += rows
            self.applied_bytes += size
            self.set_aside += len(applied.letters)
            self.stale_keys += applied.stale_keys
            for table, counts in applied.tables.items():
                self.tables.setdefault(table, TableCounts()).add(counts)
                self.total.add(counts)

    def lag(self, source_to_log: float, log_to_target: float, rows_behind: int) -> None:
        with self.lock:
            self.source_to_log_seconds, self.log_to_target_seconds = source_to_log, log_to_target
            mean = self.applied_bytes / self.applied_rows if self.applied_rows else 200.0
            self.bytes_behind = int(rows_behind * mean)

    def failed(self, error: TailraceError, *, retried: bool) -> None:
        message = f"{error.message}: {error.detail}" if error.detail else error.message
        entry = TableError(error.code, message, error.hint, error.column or "", error.position or "")
        with self.lock:
            self.last_error = entry
            self.retries += retried
            if not retried:
                self.state = "failed"
                if error.table is not None:
                    self.errors[error.table] = entry

    def to_json(self) -> dict[str, Any]:
        """The sink's member of `status --json` (interfaces: `sinks[]`), with `tables` by name beside it."""
        with self.lock:
            return {
                "name": self.name,
                "state": self.state,
                "position": self.position,
                "lag": {
                    "source_to_log_seconds": round(self.source_to_log_seconds, 3),
                    "log_to_target_seconds": round(self.log_to_target_seconds, 3),
                    "bytes": self.bytes_behind,
                },
                "applied": {
                    "inserts": self.total.inserts,
                    "updates": self.total.updates,
                    "deletes": self.total.deletes,
                    "ddls": self.total.ddls,
                },
                "rows_loaded": self.total.loaded,
                "applied_seq": self.applied_seq,
                "retries": self.retries,
                "set_aside": self.set_aside,
                "stale_keys": self.stale_keys,
                "error": None if self.last_error is None else _error_json(self.last_error),
                "tables": {
                    str(table): {
                        "rows_loaded": counts.loaded,
                        "inserts": counts.inserts,
                        "updates": counts.updates,
                        "deletes": counts.deletes,
                        "error": _error_json(self.errors[table]) if table in self.errors else None,
                    }
                    for table, counts in self.tables.items()
                },
            }


def _error_json(error: TableError) -> dict[str, str]:
    words = {"code": error.code, "message": error.message, "remedy": error.remedy}
    return words | {word: text for word, text in (("column", error.column), ("position", error.position)) if text}
