"""How far the load of each table has come, as commit records carry it (rules C2, B11).

Pure values. The publisher applies changes in log order and writes the whole state of every table a record changes;
`restore` folds the records from the last complete state to the last into the state to resume with.

In a record: table name as JSON `["schema","table"]` → {state, rows, bounds, chunks, snapshots, error, schema, layout}.
`chunks` is one letter a chunk: `n` no snapshot, `d` rows in the log. `snapshots`: chunk → [snapshot, past] of those not
forgotten. `schema`: id of the value schema announced last; `layout`: the engine's note beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from tailrace_log.log import CommitRecord
from tailrace_schemas.table import TableId

State = Literal["loading", "streaming", "stopped"]


@dataclass(slots=True)
class TableLoad:
    """`bounds`: see `Source.plan`. A table that is not loaded at all (mode cdc) starts as `streaming`."""

    state: State = "streaming"
    rows: int = 0
    bounds: list[list[str]] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    snapshots: dict[int, tuple[str, str]] = field(default_factory=dict)
    error: dict[str, str] = field(default_factory=dict)
    value_id: int = 0
    layout: str = ""

    @staticmethod
    def fresh(bounds: list[list[str]]) -> TableLoad:
        return TableLoad("loading", 0, bounds, ["n"] * (len(bounds) + 1))

    @property
    def loaded(self) -> bool:
        """Every chunk's rows are in the log."""
        return self.state == "streaming" or (self.state == "loading" and "n" not in self.chunks)

    def chunk_done(self, chunk: int, snapshot: str, past: str, rows: int) -> None:
        self.chunks[chunk] = "d"
        self.snapshots[chunk] = (snapshot, past)
        self.rows += rows

    def restart(self, bounds: list[list[str]]) -> None:
        fresh = TableLoad.fresh(bounds)
        self.state, self.rows, self.bounds, self.chunks = fresh.state, 0, fresh.bounds, fresh.chunks
        self.snapshots, self.error = {}, {}

    def stop(self, error: dict[str, str]) -> None:
        self.state, self.error, self.snapshots = "stopped", error, {}

    def forget(self, chunks: Iterable[int]) -> None:
        """Drop snapshots (rule B11); with the last one of a loaded table, the table streams."""
        for chunk in chunks:
            del self.snapshots[chunk]
        if self.state == "loading" and self.loaded and not self.snapshots:
            self.state, self.bounds, self.chunks = "streaming", [], []

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"state": self.state, "rows": self.rows}
        if self.chunks:
            out |= {"bounds": self.bounds, "chunks": "".join(self.chunks)}
        if self.snapshots:
            out["snapshots"] = {str(chunk): list(pair) for chunk, pair in self.snapshots.items()}
        if self.error:
            out["error"] = self.error
        if self.value_id:
            out["schema"] = self.value_id
        if self.layout:
            out["layout"] = self.layout
        return out

    @staticmethod
    def from_json(data: dict[str, Any]) -> TableLoad:
        return TableLoad(
            state=data["state"],
            rows=data["rows"],
            bounds=data.get("bounds", []),
            chunks=list(data.get("chunks", "")),
            snapshots={int(chunk): (pair[0], pair[1]) for chunk, pair in data.get("snapshots", {}).items()},
            error=data.get("error", {}),
            value_id=data.get("schema", 0),
            layout=data.get("layout", ""),
        )


def table_key(table: TableId) -> str:
    return json.dumps(list(table), ensure_ascii=False)


def table_of_key(key: str) -> TableId:
    return TableId(*json.loads(key))


def restore(records: list[CommitRecord]) -> dict[TableId, TableLoad]:
    """The state after `records`, which begin with a complete one (as `LogWriter.open` returns them)."""
    out: dict[TableId, TableLoad] = {}
    for record in records:
        if record.load_full:
            out = {}
        for key, data in record.load.items():
            out[table_of_key(key)] = TableLoad.from_json(data)
    return out
