"""Logical types: what a column's value means, apart from any engine's spelling of it.

A source maps each native type to one LogicalType; `avro.py` gives its Debezium-compatible Avro form and the
`Wire` code by which codecs write and read it. The native spelling travels beside it (`table.Column.native`), so
that a target of the same engine can create exactly the same type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "boolean",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "decimal",  # precision and scale declared; unsigned bigint is decimal(20, 0)
    "number",  # numeric without declared precision: scale travels with the value
    "string",
    "bytes",
    "bits",  # length in bits > 1; Debezium sends them little-endian
    "date",
    "time",  # precision = fractional digits
    "duration",  # MySQL TIME: signed, up to 838 hours; precision = fractional digits
    "timestamp",  # wall clock without zone; precision = fractional digits
    "timestamp_tz",  # an instant
    "time_tz",
    "interval",
    "year",
    "json",
    "xml",
    "uuid",
    "enum",
    "set",
    "array",
    "geometry",
    "vector",
    "text",  # any other type, carried in the source's own text form
]


@dataclass(frozen=True, slots=True)
class LogicalType:
    """One logical type. Which of the parameters count depends on `kind`; the rest keep their defaults."""

    kind: Kind
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    labels: tuple[str, ...] = ()
    item: LogicalType | None = None
    varying: bool = False  # bits: of any number up to `length`, which is part of the value

    def to_json(self) -> dict[str, Any]:
        """The members that differ from their defaults, for the table's description in the schema registry."""
        out: dict[str, Any] = {"kind": self.kind}
        for name in ("length", "precision", "scale"):
            if (value := getattr(self, name)) is not None:
                out[name] = value
        if self.labels:
            out["labels"] = list(self.labels)
        if self.item is not None:
            out["item"] = self.item.to_json()
        if self.varying:
            out["varying"] = True
        return out

    @staticmethod
    def from_json(data: dict[str, Any]) -> LogicalType:
        item = data.get("item")
        return LogicalType(
            kind=data["kind"],
            length=data.get("length"),
            precision=data.get("precision"),
            scale=data.get("scale"),
            labels=tuple(data.get("labels", ())),
            item=None if item is None else LogicalType.from_json(item),
            varying=bool(data.get("varying")),
        )


BOOLEAN = LogicalType("boolean")
INT8 = LogicalType("int8")
INT16 = LogicalType("int16")
INT32 = LogicalType("int32")
INT64 = LogicalType("int64")
UINT64 = LogicalType("decimal", precision=20, scale=0)
FLOAT32 = LogicalType("float32")
FLOAT64 = LogicalType("float64")
NUMBER = LogicalType("number")
STRING = LogicalType("string")
BYTES = LogicalType("bytes")
DATE = LogicalType("date")
INTERVAL = LogicalType("interval")
YEAR = LogicalType("year")
JSON = LogicalType("json")
XML = LogicalType("xml")
UUID = LogicalType("uuid")
GEOMETRY = LogicalType("geometry")
TEXT = LogicalType("text")


def decimal(precision: int, scale: int) -> LogicalType:
    return LogicalType("decimal", precision=precision, scale=scale)


def timestamp(precision: int = 6) -> LogicalType:
    return LogicalType("timestamp", precision=precision)


def timestamp_tz(precision: int = 6) -> LogicalType:
    return LogicalType("timestamp_tz", precision=precision)


def time(precision: int = 6) -> LogicalType:
    return LogicalType("time", precision=precision)


def array(item: LogicalType) -> LogicalType:
    return LogicalType("array", item=item)
