"""What lies behind a Postgres table's description: column numbers and storage. By these it can be told, from two
looks at the catalogue, what became of the rows that exist when columns change, of which the stream says nothing.

- A column is its number (pg_attribute.attnum), not its name: a rename keeps it, one dropped and added gets a new one.
- ADD COLUMN with a constant keeps the files and notes the constant (attmissingval); everything that writes rows anew
  (a volatile default, ALTER TYPE, VACUUM FULL) makes new files (pg_class.relfilenode). ALTER TYPE also makes a new
  version of the column's pg_attribute row, VACUUM FULL does not.

Where the looks leave a doubt the table is loaded again, which is right wherever in the stream it happens: snapshots
taken from then on see everything that the later look saw.
Pure. Source: ATExecAddColumn, ATExecAlterColumnType and finish_heap_swap of PostgreSQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tailrace_schemas.table import Column, TableSchema

REWRITTEN = "its rows were written anew"
PARTITIONS = "a partition was attached, truncated or written anew"
DOUBT = "columns were added and dropped in between"
UNTOLD = "an added column has a value in rows that exist"
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_PLAIN_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?)?")
_NUMBERS = {"int16", "int32", "int64", "decimal", "number", "float32", "float64"}


@dataclass(frozen=True, slots=True)
class Layout:
    """`files`: (oid, relfilenode) of the table, or of its leaf partitions. `columns`: name → (attnum, xmin of the
    pg_attribute row), generated ones among them. `top`: the highest number ever given. `missing`: the text of the
    constant that rows older than the column hold; None where partitions differ. `attached`: the leaves that were tables
    of their own before. These and `partitioned` are not part of the text form."""

    files: frozenset[tuple[int, int]]
    columns: Mapping[str, tuple[int, int]]
    top: int
    missing: Mapping[str, str | None] = field(default_factory=dict[str, str | None], compare=False)
    partitioned: bool = field(default=False, compare=False)
    attached: frozenset[int] = field(default=frozenset(), compare=False)

    def to_text(self) -> str:
        columns = {name: list(pair) for name, pair in self.columns.items()}
        return json.dumps({"files": sorted(self.files), "columns": columns, "top": self.top}, ensure_ascii=False)

    @staticmethod
    def from_text(text: str) -> Layout | None:
        """None for an empty text: nothing is known."""
        if not text:
            return None
        data = json.loads(text)
        columns = {name: (pair[0], pair[1]) for name, pair in data["columns"].items()}
        return Layout(frozenset((oid, node) for oid, node in data["files"]), columns, data["top"])

    @property
    def names(self) -> dict[int, str]:
        return {number: name for name, (number, _) in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Evolution:
    """How a table came from one description to the next. `renamed`: old name → new; `defaults`: added column → text
    that rows which exist hold, where it is not NULL; `reload`: why the table has to be loaded again, or empty."""

    renamed: dict[str, str] = field(default_factory=dict[str, str])
    defaults: dict[str, str] = field(default_factory=dict[str, str])
    reload: str = ""


def evolve(old: Layout | None, now: Layout, before: TableSchema, after: TableSchema) -> Evolution:
    """`old` and `now`: the looks that belong to the schemas `before` and `after`; `old` None: it was never looked."""
    added = [column for column in after.columns if column.name not in _names(before)]
    if old is None:
        retyped = any(c.native != after.column(c.name).native for c in before.columns if c.name in _names(after))
        return Evolution(reload=DOUBT if added or retyped else "")
    numbers = {name: number for name, (number, _) in now.columns.items()}
    if any(name in numbers and numbers[name] != number for name, (number, _) in old.columns.items()):
        return Evolution(reload=DOUBT)  # one name, two columns
    renamed = {
        name: now.names[number]
        for name, (number, _) in old.columns.items()
        if now.names.get(number, name) != name and name in _names(before)
    }
    added = [column for column in added if column.name not in renamed.values()]
    if now.partitioned and _partitions_changed(old, now):
        return Evolution(renamed, reload=PARTITIONS)
    if not old.files <= now.files and (added or _touched(old, now)):
        return Evolution(renamed, reload=REWRITTEN)
    gone_between = set(range(old.top + 1, now.top + 1)) - set(numbers.values())
    if added and gone_between:
        return Evolution(renamed, reload=DOUBT)
    return _with_defaults(renamed, added, now)


def _with_defaults(renamed: dict[str, str], added: list[Column], now: Layout) -> Evolution:
    defaults: dict[str, str] = {}
    for column in added:
        if column.name not in now.missing:
            continue
        text = now.missing[column.name]
        told = None if text is None else portable(column, text)
        if told is None:
            return Evolution(renamed, reload=UNTOLD)
        defaults[column.name] = told
    return Evolution(renamed, defaults)


def in_between(
    old: Layout | None, ahead: Layout | None, before: TableSchema, after: TableSchema
) -> tuple[Evolution, Layout | None]:
    """As `evolve`, to a description that the stream shows while the catalogue, `ahead`, has moved on (None: the table
    is gone). Also gives the layout to compare with next: that of the last look, under the names of `after`."""
    added = [name for name in _names(after) if name not in _names(before)]
    dropped = [name for name in _names(before) if name not in _names(after)]
    if old is None or ahead is None:
        return Evolution(reload=DOUBT if added or dropped else ""), None
    columns = {name: old.columns[name] for name in _names(after) if name in old.columns}
    renamed: dict[str, str] = {}
    fresh: list[Column] = []
    for name in added:
        number, version = ahead.columns.get(name, (0, 0))
        came_from = old.names.get(number, "")
        if came_from in dropped:
            renamed[came_from] = name
            columns[name] = old.columns[came_from]
        elif number > old.top and old.files <= ahead.files:
            fresh.append(after.column(name))
            columns[name] = (number, version)
        else:
            return Evolution(reload=DOUBT), None
    top = max(old.top, *(number for number, _ in columns.values()))
    return _with_defaults(renamed, fresh, ahead), Layout(old.files, columns, top)


def portable(column: Column, text: str) -> str | None:
    """A value's text that every target reads as that value in a DEFAULT; None where there is none."""
    kind = column.type.kind
    if kind == "boolean":
        return {"t": "1", "f": "0", "1": "1", "0": "0"}.get(text)
    if kind in _NUMBERS:
        return text if _PLAIN_NUMBER.fullmatch(text) else None
    if kind in ("date", "timestamp"):
        return text if _PLAIN_TIME.fullmatch(text) else None
    return text if kind in ("string", "enum") else None


def _partitions_changed(old: Layout, now: Layout) -> bool:
    """Rows came or went with a partition, of which the stream says nothing: it speaks of the root only. A leaf with
    new files was truncated or written anew; nothing tells which."""
    before = dict(old.files)
    return any(before[leaf] != node if leaf in before else leaf in now.attached for leaf, node in now.files)


def detached(old: Layout | None, now: Layout) -> bool:
    """Partitions are gone: their rows left the source's table without an event, and stay at the targets."""
    return old is not None and now.partitioned and not dict(old.files).keys() <= dict(now.files).keys()


def _touched(old: Layout, now: Layout) -> bool:
    """A column that is still there has a newer pg_attribute row."""
    versions = dict(now.columns.values())
    return any(versions.get(number, version) != version for number, version in old.columns.values())


def _names(schema: TableSchema) -> list[str]:
    return [column.name for column in schema.columns]
