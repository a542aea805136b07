"""A table as its source describes it at one moment: columns, key, foreign keys.

The description travels inside the registered value schema (`avro.value_schema`), so a schema id alone tells a sink
everything it needs to decode an event and to create or change the target table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tailrace_schemas.types import LogicalType

Engine = Literal["postgresql", "mysql", "mariadb"]


class TableId(NamedTuple):
    """Namespace (Postgres schema, MySQL database) and name, unquoted and exact."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column in table order. `native` is the source's own spelling, e.g. `numeric(12,2)`.

    `generated`: the source computes it; the event carries it where the source sends it, but a sink never writes it to
    a target column that is generated as well. `collation`: set where it decides the key's order or equality.
    """

    name: str
    type: LogicalType
    native: str
    nullable: bool = True
    generated: bool = False
    collation: str | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"name": self.name, "type": self.type.to_json(), "native": self.native}
        if not self.nullable:
            out["nullable"] = False
        if self.generated:
            out["generated"] = True
        if self.collation is not None:
            out["collation"] = self.collation
        return out

    @staticmethod
    def from_json(data: dict[str, Any]) -> Column:
        return Column(
            name=data["name"],
            type=LogicalType.from_json(data["type"]),
            native=data["native"],
            nullable=data.get("nullable", True),
            generated=data.get("generated", False),
            collation=data.get("collation"),
        )


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`columns` of this table reference `parent_columns` of `parent`; actions are SQL words (CASCADE, SET NULL …)."""

    name: str
    columns: tuple[str, ...]
    parent: TableId
    parent_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "columns": list(self.columns),
            "parent": list(self.parent),
            "parent_columns": list(self.parent_columns),
            "on_delete": self.on_delete,
            "on_update": self.on_update,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> ForeignKey:
        return ForeignKey(
            name=data["name"],
            columns=tuple(data["columns"]),
            parent=TableId(*data["parent"]),
            parent_columns=tuple(data["parent_columns"]),
            on_delete=data["on_delete"],
            on_update=data["on_update"],
        )


@dataclass(frozen=True, slots=True)
class TableSchema:
    """`key`: primary key columns in key order, else those of the first unique index whose columns are all NOT NULL,
    else empty (a keyless table: its rows are told apart by all their values). `unique`: further unique keys."""

    engine: Engine
    table: TableId
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = field(default=())

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        return tuple(self.column(name) for name in self.key)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "engine": self.engine,
            "schema": self.table.schema,
            "table": self.table.name,
            "key": list(self.key),
            "columns": [column.to_json() for column in self.columns],
        }
        if self.unique:
            out["unique"] = [list(names) for names in self.unique]
        if self.foreign_keys:
            out["foreign_keys"] = [key.to_json() for key in self.foreign_keys]
        return out

    @staticmethod
    def from_json(data: dict[str, Any]) -> TableSchema:
        return TableSchema(
            engine=data["engine"],
            table=TableId(data["schema"], data["table"]),
            columns=tuple(Column.from_json(column) for column in data["columns"]),
            key=tuple(data["key"]),
            unique=tuple(tuple(names) for names in data.get("unique", ())),
            foreign_keys=tuple(ForeignKey.from_json(key) for key in data.get("foreign_keys", ())),
        )
