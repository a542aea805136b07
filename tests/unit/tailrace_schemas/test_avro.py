"""Avro schemas equal those captured from Debezium 3.7, and every schema can be used by fastavro."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from tailrace_schemas import avro, avro_side, types
from tailrace_schemas.table import Column, ForeignKey, TableId, TableSchema
from tailrace_schemas.types import LogicalType

CAPTURED = Path(__file__).parents[2] / "golden" / "debezium"

TABLE = TableSchema(
    "postgresql",
    TableId("public", "t"),
    (
        Column("id", types.INT32, "integer", nullable=False),
        Column("name", types.STRING, "text"),
        Column("price", types.decimal(10, 2), "numeric(10,2)"),
        Column("note", types.STRING, "text"),
        Column("ts", types.timestamp_tz(), "timestamp with time zone"),
        Column("big", types.NUMBER, "numeric"),
    ),
    ("id",),
)


def _captured(name: str) -> Any:
    return json.loads((CAPTURED / name).read_text())


def test_value_schema_is_debeziums_but_for_the_trailing_fields() -> None:
    ours = avro.value_schema("dbz", TABLE)
    assert [field["name"] for field in ours["fields"][-2:]] == ["unavailable_columns", "exact_values"]
    ours["fields"] = ours["fields"][:-2]
    assert json.dumps(ours) == json.dumps(_captured("dbz.public.t-value.avsc"))


def test_key_schema_is_debeziums() -> None:
    assert json.dumps(avro.key_schema("dbz", TABLE)) == json.dumps(_captured("dbz.public.t-key.avsc"))


def test_transaction_schemas_are_debeziums() -> None:
    assert _captured("dbz.transaction-key.avsc") == avro_side.TRANSACTION_KEY
    assert _captured("dbz.transaction-value.avsc") == avro_side.TRANSACTION_VALUE


KINDS = [
    *(LogicalType(kind) for kind in ("boolean", "int8", "int16", "int32", "int64", "float32", "float64", "string")),
    *(LogicalType(kind) for kind in ("bytes", "date", "duration", "time_tz", "interval", "year", "json", "xml")),
    *(LogicalType(kind) for kind in ("uuid", "text", "geometry", "number")),
    *(LogicalType(kind, precision=p) for kind in ("time", "timestamp", "timestamp_tz") for p in (0, 3, 4, 6)),
    LogicalType("enum", labels=("a", "b,c")),
    LogicalType("set", labels=("a", "b")),
    LogicalType("bits", length=12),
    LogicalType("vector", item=types.FLOAT32),
    types.array(types.NUMBER),
    types.UINT64,
]


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "mariadb"])
def test_every_type_makes_a_schema_that_fastavro_accepts(engine: Any) -> None:
    columns = tuple(Column(f"c{n}", kind, "x", nullable=n % 2 == 0) for n, kind in enumerate(KINDS))
    twice = tuple(Column(f"d{n}", kind, "x") for n, kind in enumerate(KINDS))
    schema = TableSchema(engine, TableId("s", "t"), columns + twice, ())
    fastavro.parse_schema(avro.value_schema("p", schema))
    assert avro.key_schema("p", schema) is None


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "mariadb"])
def test_side_schemas_are_accepted_by_fastavro(engine: str) -> None:
    for schema in (avro_side.HEARTBEAT_KEY, avro_side.HEARTBEAT_VALUE, avro_side.schema_change_key(engine)):
        fastavro.parse_schema(schema)
    fastavro.parse_schema(avro_side.schema_change_value(engine))


def test_names_that_avro_does_not_allow_stay_distinct_and_true_names_travel_along() -> None:
    names = ("a-b", "a_b", "1st", "select", "é")
    columns = tuple(Column(name, types.INT32, "integer") for name in names)
    schema = TableSchema("postgresql", TableId("my schema", 'we"ird'), columns, ())
    value = avro.value_schema("my-prefix", schema)
    fastavro.parse_schema(json.loads(json.dumps(value)))
    fields = [field["name"] for field in value["fields"][0]["type"][1]["fields"]]
    assert len(set(fields)) == len(names)
    assert avro.table_of(json.dumps(value)) == schema


def test_a_table_survives_its_json_form() -> None:
    parent = ForeignKey("fk", ("x",), TableId("s", "p"), ("id",), "CASCADE", "NO ACTION")
    schema = TableSchema(
        "mysql",
        TableId("s", "t"),
        (
            Column("id", types.UINT64, "bigint unsigned", nullable=False),
            Column(
                "x", LogicalType("enum", labels=("a", "b")), "enum('a','b')", generated=True, collation="latin1_bin"
            ),
            Column("y", types.array(types.timestamp(3)), "timestamp(3)[]"),
        ),
        ("id",),
        (("x", "y"),),
        (parent,),
    )
    assert TableSchema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_a_schema_of_somebody_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tailrace\.table"):
        avro.table_of(json.dumps(_captured("dbz.public.t-value.avsc")))
