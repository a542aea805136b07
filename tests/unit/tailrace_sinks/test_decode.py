"""The sink codec against fastavro: every type as COPY text, compaction, partial rows, hostile bytes."""

import contextlib
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from fix_sink import ITEMS, Encoder, column, table
from librt.strings import BytesWriter

from tailrace_log.memory import MemoryLog
from tailrace_schemas import types as t
from tailrace_schemas.table import TableSchema
from tailrace_schemas.types import LogicalType
from tailrace_schemas.wire import put_frame
from tailrace_sinks import decode, envelope
from tailrace_sinks.decode import Compacted, Compactor
from tailrace_sinks.plan import MYSQL_SQL, MYSQL_TSV, POSTGRES, Dialect, decode_plan


class Frames:
    """Frames of one table, as capture would write them."""

    def __init__(self, schema: TableSchema, engine_log: MemoryLog | None = None) -> None:
        self.schema = schema
        self.encoder = Encoder(engine_log or MemoryLog(), schema)
        self.writer = BytesWriter()

    def put(self, op: str, before: dict[str, Any] | None, after: dict[str, Any] | None, **more: Any) -> "Frames":
        key = self.encoder.key((before if op == "d" else after) or {})
        put_frame(self.writer, key, self.encoder.value(op, before, after, **more))
        return self

    def tombstone(self, **row: Any) -> "Frames":
        put_frame(self.writer, self.encoder.key(row), None)
        return self

    @property
    def data(self) -> bytes:
        return self.writer.getvalue()


def compact(frames: Frames, dialect: Dialect = POSTGRES) -> Compacted:
    compactor = Compactor(decode_plan(frames.schema, dialect), b"", b"")
    compactor.add(frames.data)
    return compactor.finish()


def line_of(type_: LogicalType, value: Any, dialect: Dialect = POSTGRES, exact: str | None = None) -> bytes:
    schema = table("t", column("id", t.INT32, nullable=False), column("v", type_))
    frames = Frames(schema).put("c", None, {"id": 1, "v": value}, exact={"after.v": exact} if exact else None)
    if dialect.quoting == envelope.Q_SQL:
        return b"".join(compact(frames, dialect).upserts).removeprefix(b"'1',").removesuffix(b"),")
    return b"".join(compact(frames, dialect).upserts).removeprefix(b"1\t").removesuffix(b"\n")


POSTGRES_TEXTS: list[tuple[LogicalType, Any, bytes]] = [
    (t.BOOLEAN, True, b"1"),
    (t.BOOLEAN, False, b"0"),
    (t.INT8, -128, b"-128"),
    (t.INT64, -(2**63), b"-9223372036854775808"),
    (t.INT64, 2**63 - 1, b"9223372036854775807"),
    (t.INT64, 10**18, b"1000000000000000000"),
    (t.FLOAT32, 0.5, b"0.5"),
    (t.FLOAT64, -0.0, b"-0.0"),
    (t.FLOAT64, 1e308, b"1e+308"),
    (t.FLOAT64, float("nan"), b"NaN"),
    (t.FLOAT64, float("-inf"), b"-Infinity"),
    (t.decimal(12, 2), Decimal("1.50"), b"1.50"),
    (t.decimal(12, 2), Decimal("-0.05"), b"-0.05"),
    (t.decimal(38, 10), Decimal("12345678901234567890.0123456789"), b"12345678901234567890.0123456789"),
    (t.decimal(20, 0), Decimal(2**64 - 1), b"18446744073709551615"),
    (t.decimal(19, 0), Decimal(-(2**63)), b"-9223372036854775808"),
    (t.NUMBER, {"scale": 3, "value": b"\xff"}, b"-0.001"),
    (t.NUMBER, {"scale": 0, "value": b"\x07"}, b"7"),
    (t.NUMBER, {"scale": -2, "value": b"\x07"}, b"700"),
    (t.STRING, "a\tb\\c\nd\re'", rb"a\tb\\c\nd\re'"),
    (t.STRING, "", b""),
    (t.STRING, "é😀", "é😀".encode()),
    (t.BYTES, b"\x00\xff\x10", rb"\\x00ff10"),
    (t.BYTES, b"", rb"\\x"),
    (LogicalType("bits", length=10), b"\x05\x02", b"1000000101"),
    (t.DATE, 0, b"1970-01-01"),
    (t.DATE, 19_782, b"2024-02-29"),
    (t.DATE, -719_528, b"0001-01-01 BC"),
    (t.DATE, 2_932_897, b"10000-01-01"),
    (t.time(3), 86_400_000, b"24:00:00"),
    (t.time(6), 1, b"00:00:00.000001"),
    (LogicalType("duration", precision=6), -(838 * 3600 + 59 * 60 + 59) * 1_000_000, b"-838:59:59"),
    (t.timestamp(3), -1, b"1969-12-31 23:59:59.999000"),
    (t.timestamp(6), 1_700_000_000_123_456, b"2023-11-14 22:13:20.123456"),
    (t.timestamp(6), -62_167_219_200_000_001, b"0002-12-31 23:59:59.999999 BC"),
    (t.timestamp_tz(), "2024-02-29T01:02:03.5Z", b"2024-02-29T01:02:03.5Z"),
    (t.timestamp_tz(), "+294276-12-31T23:59:59.999999Z", b"294276-12-31T23:59:59.999999Z"),
    (t.timestamp_tz(), "-0043-03-15T12:00:00Z", b"0044-03-15T12:00:00Z BC"),
    (t.timestamp_tz(), "-infinity", b"-infinity"),
    (t.YEAR, 0, b"0"),
    (t.JSON, '{"a": "\\u0000\\n"}', rb'{"a": "\\u0000\\n"}'),
    (t.array(t.INT32), [1, None, 3], b'{"1",NULL,"3"}'),
    (t.array(t.STRING), ['a"b', "c\\d", "NULL", ""], b'{"a\\\\"b","c\\\\\\\\d","NULL",""}'),
    (t.array(t.BYTES), [b"\x01"], rb'{"\\\\x01"}'),
    (t.array(t.INT32), [], b"{}"),
    (LogicalType("vector", length=2), [1.0, -2.5], b"[1.0,-2.5]"),
    (t.GEOMETRY, {"wkb": bytes.fromhex("0101000000" + "00" * 16), "srid": None}, b"\\\\x0101000000" + b"00" * 16),
    (
        t.GEOMETRY,
        {"wkb": bytes.fromhex("0101000000" + "00" * 16), "srid": 4326},
        b"\\\\x0101000020e6100000" + b"00" * 16,
    ),
]


@pytest.mark.parametrize(("type_", "value", "text"), POSTGRES_TEXTS, ids=lambda v: str(v)[:40])
def test_value_becomes_copy_text(type_: LogicalType, value: Any, text: bytes) -> None:
    assert line_of(type_, value) == text
    assert line_of(type_, None) == rb"\N"


MYSQL_TEXTS: list[tuple[LogicalType, Any, bytes, bytes]] = [
    (t.STRING, "a'b\0c\\\n\x1a", rb"a'b\0c\\\n\Z", rb"'a\'b\0c\\\n\Z'"),
    (t.BYTES, b"\x00\xff", b"00ff", b"x'00ff'"),
    (LogicalType("bits", length=10), b"\x05\x02", b"1000000101", b"b'1000000101'"),
    (t.timestamp_tz(), "2024-02-29T01:02:03.5Z", b"2024-02-29 01:02:03.5", b"'2024-02-29 01:02:03.5'"),
    (t.array(t.STRING), ['a"b', None], rb'["a\\"b",null]', rb"""'["a\\"b",null]'"""),
    (t.array(t.decimal(5, 2)), [Decimal("1.50")], b"[1.50]", b"'[1.50]'"),
    (t.GEOMETRY, {"wkb": b"\x01\x02", "srid": 4326}, b"e61000000102", b"x'e61000000102'"),
]


@pytest.mark.parametrize(("type_", "value", "tsv", "sql"), MYSQL_TEXTS, ids=lambda v: str(v)[:30])
def test_value_becomes_mysql_text(type_: LogicalType, value: Any, tsv: bytes, sql: bytes) -> None:
    assert line_of(type_, value, MYSQL_TSV) == tsv
    assert line_of(type_, value, MYSQL_SQL) == sql
    assert line_of(type_, None, MYSQL_SQL) == b"NULL"


def test_exact_text_stands_in_for_the_value() -> None:
    assert line_of(t.decimal(5, 2), Decimal(0), exact="NaN") == b"NaN"
    assert line_of(t.array(t.INT32), [], exact="[0:1]={1,2}") == b"[0:1]={1,2}"
    assert line_of(t.array(t.INT32), [], MYSQL_TSV, exact='{{1,2},{NULL,"a\'"}}') == b'[[1,2],[null,"a\'"]]'
    assert line_of(t.DATE, 0, MYSQL_SQL, exact="0000-00-00") == b"'0000-00-00'"


ROW = {"id": 1, "name": "a", "email": "x", "picture": b"\x01"}


def test_last_state_of_a_key_wins() -> None:
    frames = Frames(ITEMS)
    frames.put("c", None, ROW).put("u", None, {**ROW, "name": "b"}).put("c", None, {**ROW, "id": 2})
    frames.put("d", {"id": 2}, None).tombstone(id=2)
    out = compact(frames)
    assert (out.upserts, out.upsert_count) == ([b"1\tb\tx\t\\\\x01\n"], 1)
    assert (out.deletes, out.delete_count) == ([b"2\t\\N\t\\N\t\\N\n"], 1)


def test_insert_after_delete_is_an_upsert() -> None:
    out = compact(Frames(ITEMS).put("d", {"id": 1}, None).tombstone(id=1).put("c", None, ROW))
    assert (out.delete_count, out.upsert_count) == (0, 1)


def test_partial_update_is_merged_into_the_row_of_the_same_batch() -> None:
    frames = Frames(ITEMS).put("c", None, ROW).put("u", None, {"id": 1, "name": "b"}, unavailable=["email", "picture"])
    out = compact(frames)
    assert out.upserts == [b"1\tb\tx\t\\\\x01\n"]
    assert not out.partial


def test_partial_update_alone_keeps_the_unsent_columns_out() -> None:
    out = compact(Frames(ITEMS).put("u", None, {"id": 1, "name": "b"}, unavailable=["picture"]))
    assert out.partial == {(3,): [b"1\tb\t\\N\t\\N\n"]}
    assert (out.upsert_count, out.upserts) == (0, [])


def test_partial_updates_of_one_key_join() -> None:
    frames = Frames(ITEMS)
    frames.put("u", None, {"id": 1, "name": "b", "picture": b"\x02"}, unavailable=["email"])
    frames.put("u", None, {"id": 1, "name": "c", "email": "y"}, unavailable=["picture"])
    out = compact(frames)
    assert out.upserts == [b"1\tc\ty\t\\\\x02\n"]
    assert not out.partial


def test_whole_row_after_a_partial_one_replaces_it() -> None:
    frames = Frames(ITEMS).put("u", None, {"id": 1}, unavailable=["picture"]).put("u", None, ROW)
    out = compact(frames)
    assert out.upsert_count == 1
    assert not out.partial


def test_partial_insert_after_a_delete_does_not_take_the_old_rows_values() -> None:
    frames = Frames(ITEMS).put("d", {"id": 1}, None).put("c", None, {"id": 1, "name": "n"}, unavailable=["picture"])
    out = compact(frames)
    assert out.fresh == {(3,): [b"1\tn\t\\N\t\\N\n"]}
    assert not out.partial


def test_keys_that_only_their_exact_text_tells_apart_stay_apart() -> None:
    schema = table("t", column("id", t.decimal(5, 2), "numeric(5,2)", nullable=False), column("v"))
    frames = Frames(schema)
    frames.put("c", None, {"id": Decimal(0), "v": 1}, exact={"after.id": "NaN"})
    frames.put("c", None, {"id": Decimal(0), "v": 2})
    frames.put("c", None, {"id": Decimal(0), "v": 3}, exact={"after.id": "Infinity"})
    frames.put("d", {"id": Decimal(0), "v": None}, None, exact={"before.id": "Infinity"})
    out = compact(frames)
    assert out.upserts[0].splitlines() == [b"NaN\t1", b"0.00\t2"]
    assert out.deletes == [b"Infinity\t\\N\n"]


def test_before_images_are_skipped() -> None:
    frames = Frames(ITEMS).put("u", {**ROW, "name": "old"}, ROW)
    assert compact(frames).upserts == [b"1\ta\tx\t\\\\x01\n"]


def test_events_are_counted_by_kind() -> None:
    frames = Frames(ITEMS).put("r", None, ROW).put("c", None, ROW).put("u", None, ROW).put("d", ROW, None)
    compactor = Compactor(decode_plan(ITEMS, POSTGRES), b"", b"")
    compactor.add(frames.data)
    counts = compactor.counts
    assert (counts.loaded, counts.inserts, counts.updates, counts.deletes) == (1, 1, 1, 1)


def test_binlog_events_carry_file_position_and_ordinal() -> None:
    schema = table("t", column("id", nullable=False), engine="mysql")
    frames = Frames(schema).put("c", None, {"id": 1}, transaction=("uuid:5", 7), pos=1234)
    (change,) = decode.changes(decode_plan(schema, MYSQL_SQL), frames.data, True, envelope.Q_RAW)
    assert change.order == (3, 1234, 7)


def test_postgres_events_carry_commit_lsn_and_ordinal() -> None:
    frames = Frames(ITEMS).put("u", ROW, {**ROW, "name": None}, transaction=("99:1/A", 2), unavailable=["picture"])
    (change,) = decode.changes(decode_plan(ITEMS, POSTGRES), frames.data, False, envelope.Q_RAW)
    assert change.order == (0, 0x10000000A, 2)
    assert change.key == ["1"]
    assert change.before == ["1", "a", "x", "\\x01"]
    assert change.after == ["1", None, "x", envelope.MISSING]


def test_a_piece_is_parted_where_the_schema_changes() -> None:
    log = MemoryLog()
    wider = table("items", *ITEMS.columns, column("extra"))
    first = Frames(ITEMS, log).put("c", None, ROW).tombstone(id=1)
    second = Frames(wider, log).put("c", None, {**ROW, "extra": 1})
    data = first.data + second.data
    assert decode.schema_runs(data) == [(1, first.data), (3, second.data)]
    assert decode.schema_runs(Frames(ITEMS).tombstone(id=1).data) == [(-1, Frames(ITEMS).tombstone(id=1).data)]


def all_bytes_changed(data: bytes, rng: random.Random) -> Iterator[bytes]:
    for length in range(len(data)):
        yield data[:length]
    for place in range(len(data)):
        for value in (0, 0x7F, 0x80, 0xFF, rng.randrange(256)):
            yield data[:place] + bytes([value]) + data[place + 1 :]


def test_hostile_bytes_raise_and_never_crash(seed: int) -> None:
    schema = table(
        "t", *ITEMS.columns, column("tags", t.array(t.STRING)), column("n", t.NUMBER), column("g", t.GEOMETRY)
    )
    more = {"tags": ["a", None], "n": {"scale": 1, "value": b"\x05"}, "g": {"wkb": b"\x01" * 9, "srid": 5}}
    frames = Frames(schema).put("u", ROW, {**ROW, **more}, unavailable=["picture"], exact={"after.name": "x"})
    plan = decode_plan(schema, POSTGRES)
    for data in all_bytes_changed(frames.data, random.Random(f"{seed} hostile")):
        for read in (
            lambda d: compact_bytes(plan, d),
            lambda d: decode.changes(plan, d, False, envelope.Q_SQL),
            decode.schema_runs,
        ):
            with contextlib.suppress(ValueError, IndexError, KeyError, OverflowError):
                read(data)


def compact_bytes(plan: envelope.Plan, data: bytes) -> None:
    compactor = Compactor(plan, b"", b"")
    compactor.add(data)
    compactor.finish()


def test_a_truncate_event_is_no_row_and_any_other_keyless_record_of_a_keyed_table_is_refused() -> None:
    frames = Frames(ITEMS).put("c", None, {"id": 1, "name": "a"})
    put_frame(frames.writer, None, frames.encoder.value("t", None, None))
    compactor = Compactor(decode_plan(ITEMS, POSTGRES), b"", b"")
    compactor.add(frames.put("c", None, {"id": 2, "name": "b"}).data)
    assert (compactor.finish().upsert_count, compactor.counts.inserts, compactor.counts.deletes) == (2, 2, 0)
    assert len(decode.changes(decode_plan(ITEMS, POSTGRES), frames.data, False, envelope.Q_RAW)) == 2
    put_frame(frames.writer, None, frames.encoder.value("c", None, {"id": 3}))
    with pytest.raises(ValueError, match="without a key"):
        Compactor(decode_plan(ITEMS, POSTGRES), b"", b"").add(frames.data)
