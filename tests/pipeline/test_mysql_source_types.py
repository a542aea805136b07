"""Every MySQL and MariaDB type, on real servers: what the stream says of a row, what the load says of it, and what the
server prints are the same value, read by fastavro."""

import json
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from fix_mysql import Sql, decoder_of
from fix_servers import MARIADB_NAMES, MYSQL_FAMILY

from tailrace_capture.mysql.connection import server_version
from tailrace_schemas.table import Column, TableSchema
from tailrace_schemas.types import LogicalType

pytestmark = pytest.mark.servers

FAMILY = pytest.mark.parametrize("name", MYSQL_FAMILY)
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock


def expected(type_: LogicalType, raw: bytes | None, nullable: bool) -> tuple[Any, str | None]:
    """(Avro value as fastavro gives it, exact text) of what the server printed; an implementation apart from ours."""
    if raw is None:
        return None, None
    text = raw.decode("utf-8", "replace")
    kind = type_.kind
    if kind in ("int8", "int16", "int32", "int64", "year"):
        return int(text), None
    if kind == "decimal":
        return Decimal(text), None
    if kind == "float32":
        return struct.unpack("<f", struct.pack("<f", float(text)))[0], None
    if kind == "float64":
        return float(text), None
    if kind == "boolean":
        return raw[-1] == 1, None
    if kind == "bits":
        return raw[::-1], None
    if kind == "bytes":
        return raw, None
    if kind == "geometry":
        return {"wkb": raw[4:], "srid": struct.unpack("<i", raw[:4])[0]}, None
    if kind == "vector":
        return list(struct.unpack(f"<{len(raw) // 4}f", raw)), None
    if kind == "duration":
        return duration(text), None
    if kind in ("date", "timestamp", "timestamp_tz"):
        return calendar(type_, text, nullable)
    return text, None


def duration(text: str) -> int:
    hours, minutes, seconds = text.lstrip("-").split(":")
    micros = (int(hours) * 60 + int(minutes)) * 60_000_000 + int(Decimal(seconds) * 1_000_000)
    return -micros if text.startswith("-") else micros


def calendar(type_: LogicalType, text: str, nullable: bool) -> tuple[Any, str | None]:
    digits = type_.precision or 0
    if text.startswith("0000") or (moment := parsed(text)) is None:
        zero: Any = (
            0 if type_.kind != "timestamp_tz" else "1970-01-01T00:00:00" + ("." + "0" * digits) * (digits > 0) + "Z"
        )
        return (None if nullable else zero), text
    if type_.kind == "date":
        return (moment.date() - date(1970, 1, 1)).days, None
    if type_.kind == "timestamp_tz":
        return text.replace(" ", "T") + "Z", None
    micros = (moment - EPOCH) // timedelta(microseconds=1)
    return (micros // 1000 if digits <= 3 else micros), None


def parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


TEXTS = ["", "a", 'it\'s \\ "q"', "x y ", "tab\tnl\n"]
TIMES = ["'2024-03-31 01:30:00.123456'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'0000-00-00'",
         "'2024-00-10'", "'2024-02-31'", "'1969-12-31 23:59:59.5'", "'0001-01-01'"]  # fmt: skip
STAMPS = ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-10-27 01:30:00.999999'", "'0000-00-00 00:00:00'"]
DURATIONS = ["'-838:59:59'", "'838:59:59'", "'-00:00:00.000001'", "'-12:34:56.789'", "'0'", "'23:59:59.999999'"]


def numbers(bits: int) -> list[str]:
    return [str(n) for n in (-(1 << bits - 1), (1 << bits - 1) - 1, -1, 0, 1, 77, -78)]


def unsigned(bits: int) -> list[str]:
    return [str(n) for n in (0, 1, (1 << bits) - 1, 1 << bits - 1, (1 << bits - 1) - 1)]


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


COLUMNS: list[tuple[str, list[str]]] = [
    ("tinyint", numbers(8)),
    ("tinyint unsigned", unsigned(8)),
    ("tinyint(1)", ["-1", "0", "1", "127"]),
    ("smallint", numbers(16)),
    ("smallint unsigned", unsigned(16)),
    ("mediumint", numbers(24)),
    ("mediumint unsigned", unsigned(24)),
    ("int", numbers(32)),
    ("int(10) unsigned zerofill", unsigned(32)),
    ("bigint", numbers(64)),
    ("bigint unsigned", unsigned(64)),
    ("float", ["0", "1.5", "-3.4e38", "1.17549e-38", "16777217", "0.1", "-0.0"]),
    ("double", ["0", "1.7976931348623157e308", "-2.2250738585072014e-308", "0.1", "1e22", "123456789.123456789"]),
    ("decimal(10,2)", ["0", "-0.01", "99999999.99", "-99999999.99", "1.5"]),
    ("decimal(18,9)", ["999999999.999999999", "-1e-9", "5"]),
    ("decimal(19,0)", ["9999999999999999999", "-9999999999999999999", "0"]),
    ("decimal(65,30)", ["-12345678901234567890123456789012345.5", "1e-30", "0", "99999999999999999999999999999999999"]),
    ("decimal(5,5)", ["0.12345", "-0.99999"]),
    ("decimal(9,0) unsigned", ["999999999", "0"]),
    ("char(9)", [quoted(t.strip()[:9]) for t in TEXTS] + ["'é😀ß'"]),
    ("varchar(40)", [quoted(t) for t in TEXTS] + ["'é😀ß'"]),
    ("varchar(300)", ["repeat('é', 300)", "''"]),
    ("char(200)", ["repeat('é', 200)", "'x'"]),
    ("tinytext", ["'t'"]),
    ("text", ["repeat('abc', 5000)", "''"]),
    ("mediumtext", ["repeat('x', 70000)"]),
    ("longtext", ["'long'"]),
    ("binary(16)", ["x'00ff'", "x'ab00'", "repeat('x',16)", "''"]),
    ("binary(255)", ["repeat('y',255)"]),
    ("varbinary(300)", ["x'00'", "''", "repeat(x'fe',300)"]),
    ("tinyblob", ["x'00fe'"]),
    ("blob", ["x'ff'", "''"]),
    ("mediumblob", ["repeat(x'00', 66000)"]),
    ("longblob", ["x'0102'"]),
    ("bit(1)", ["b'1'", "b'0'"]),
    ("bit(5)", ["b'10101'", "b'0'"]),
    ("bit(64)", ["~0", "1", "b'0'"]),
    ("enum('x','it''s','é')", ["'x'", "'it''s'", "'é'", "0"]),
    (f"enum({','.join(repr(str(n)) for n in range(300))})", ["'299'", "'0'"]),
    ("set('p','q','é')", ["'p,q,é'", "''", "'q'"]),
    (f"set({','.join(repr(str(n)) for n in range(64))})", ["'0,63'", "~0"]),
    ("year", ["1901", "2155", "0", "70"]),
    ("date", [t[:11].replace("'", "") and "'" + t[1:11] + "'" for t in TIMES]),
    ("time", DURATIONS),
    ("time(3)", DURATIONS),
    ("time(6)", DURATIONS),
    ("datetime", TIMES),
    ("datetime(1)", TIMES),
    ("datetime(3)", TIMES),
    ("datetime(4)", TIMES),
    ("datetime(6)", TIMES),
    ("timestamp", STAMPS),
    ("timestamp(2)", STAMPS),
    ("timestamp(6)", STAMPS),
    ("point", ["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(-1.5 10)', 4326)"]),
    ("geometry", ["ST_GeomFromText('LINESTRING(0 0,1 1)')"]),
    ("polygon", ["ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')"]),
]  # fmt: skip
MYSQL_JSON = [
    '{"a":[1,2]}', '[]', '{}', '"text with \\"quotes\\" \\u0001 é😀"', "null", "true", "1.0", "1e20", "-1.5e-7", "18446744073709551615",
    "-9223372036854775808", '{"b":{"c":[null,false,{"d":""}]},"aa":1,"a":2}', "0.1", "123456789012345678", "1e15", "1e17", "1.25e18", "1e-5", "1e-4", "0.00012345",
    "12345678.9", "1.7976931348623157e308", "5e-324", "100000.0", "-0.0", "32768", "65536", "-32769", "4294967296", "123456.123456789",
]  # fmt: skip
CHARSETS = ["latin1", "latin2", "cp1251", "koi8r", "gbk", "sjis", "cp932", "euckr", "big5", "ujis", "ucs2", "utf16", "utf32", "utf16le",
            "utf8mb3", "ascii", "greek", "hebrew", "tis620", "cp850", "macroman", "swe7", "dec8", "hp8", "gb2312"  ]  # fmt: skip
SAMPLES = {"latin1": "é€ß", "latin2": "łő", "cp1251": "Привет", "koi8r": "Привет", "gbk": "你好", "sjis": "日本ア\uff3c", "cp932": "日本①", "euckr": "한국",
           "big5": "中文", "ujis": "日本語\uff3c", "gb2312": "你好", "greek": "αβγ", "hebrew": "שלום", "tis620": "ไทย", "cp850": "é",
           "macroman": "éπ", "swe7": "Å", "dec8": "é", "hp8": "é", "ascii": "plain", "utf8mb3": "é日"}  # fmt: skip


def columns_of(sql: Sql) -> list[tuple[str, list[str]]]:
    out = list(COLUMNS)
    version = sql.run("select version()")[0][0]
    if sql.mariadb:
        uuids = [f"'{u}'" for u in ("123e4567-e89b-12d3-a456-426655440000", "00000000-0000-0000-0000-000000000000",
                 "ffffffff-ffff-ffff-ffff-ffffffffffff", "018f4e6a-0000-7000-8000-000000000000", "c232ab00-9414-11ec-b3c8-9e6bdeced846")]  # fmt: skip
        addresses = [
            f"'{a}'"
            for a in (
                "::",
                "::1",
                "::ffff:1.2.3.4",
                "::1.2.3.4",
                "2001:db8::1:0:0:1",
                "fe80::",
                "1:2:3:4:5:6:7:8",
                "0:0:1::",
            )
        ]
        out += [("uuid", uuids), ("inet6", addresses), ("longtext check (json_valid(c))", ["'{\"a\": 1}'"])]
        out += [("inet4", ["'1.2.3.4'", "'255.255.255.255'", "'0.0.0.0'"])]
    else:
        out += [("json", [quoted(j) for j in MYSQL_JSON] + ["cast(cast('2024-01-02' as date) as json)",
                "cast(cast('-12:34:56.5' as time(6)) as json)", "cast(cast('2024-01-02 03:04:05' as datetime(6)) as json)",
                "cast(cast(1.50 as decimal(10,2)) as json)", "cast(x'00ff' as json)", "json_array(repeat('x',70000), 1, 'é')",
                "json_object('big', json_array(repeat('y', 65000), 7), 'n', null)", "cast(123456789012345678901234567890.5 as json)"])]  # fmt: skip
    if str(version).startswith(("9.", "11.8")):
        texts = ("VEC_FromText", "[1,2.5,-3e10]") if sql.mariadb else ("STRING_TO_VECTOR", "[1,2.5,-3e10]")
        out = [("vector(3)", [f"{texts[0]}('{texts[1]}')", f"{texts[0]}('[0,0.1,1e-30]')"]), *out]
    return out


def build(sql: Sql, columns: list[tuple[str, list[str]]], nullable: bool) -> None:
    """Table t with a column c0, c1 … for each type; row n holds the n-th value of each column."""
    definition = []
    for i, (spelling, _) in enumerate(columns):
        text = spelling.replace("json_valid(c)", f"json_valid(c{i})")
        check = ""
        if " check" in text:
            text, check = text.split(" check", 1)
            check = " check" + check
        definition.append(f"c{i} {text} {'null' if nullable else 'not null'}{check}")
    sql.run("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
    sql.run(f"CREATE TABLE t(id int primary key, {', '.join(definition)}) CHARSET utf8mb4 ROW_FORMAT=DYNAMIC")


def insert_all(sql: Sql, columns: list[tuple[str, list[str]]], nulls: bool) -> None:
    rows = max(len(values) for _, values in columns)
    for n in range(rows):
        values = ", ".join(values[n % len(values)] for _, values in columns)
        sql.run(f"INSERT INTO t VALUES({n}, {values})")
    if nulls:
        sql.run(f"INSERT INTO t VALUES(1000, {', '.join(['NULL'] * len(columns))})")


def printed(sql: Sql, schema: TableSchema) -> dict[int, list[bytes | None]]:
    """The server's own text of every value, by id, as bytes."""

    def text(column: Column) -> str:
        return f"`{column.name}` + 0e0" if column.type.kind == "float32" else f"`{column.name}`"

    from pymysql.cursors import Cursor

    casts = {"geometry": "{}", "uuid": "CAST({} AS CHAR)", "text": "CAST({} AS CHAR)"}
    parts = ", ".join(casts.get(c.type.kind, "CAST({} AS BINARY)").format(text(c)) for c in schema.columns)
    with sql.connection.cursor(Cursor) as cursor:
        cursor.execute(f"SELECT {parts} FROM t ORDER BY id")
        out = {}
        for row in cursor.fetchall():
            values = [v.encode() if isinstance(v, str) else v for v in row]
            out[int(values[0])] = values
        return out


def check_events(sql: Sql, schema: TableSchema, events: list[tuple[Any, Any]], op: str) -> int:
    truth = printed(sql, schema)
    for key, value in events:
        assert value["op"] == op
        row = truth[key["id"]]
        exact = value["exact_values"] or {}
        for column, raw in zip(schema.columns, row, strict=True):
            want, text = expected(column.type, raw, column.nullable)
            got = value["after"][column.name]
            same = got == want and (got is None) == (want is None)
            if column.native == "json" and server_version(sql.connection) < (8, 0):
                # 5.7 prints 1.0 as 1, and its binlog tells it from 1.
                same = (None if got is None else json.loads(got)) == (None if want is None else json.loads(want))
            assert same, f"{op} {column.name} {column.native}: {str(got)[:100]!r} instead of {str(want)[:100]!r}"
            assert exact.get(f"after.{column.name}") == text, (column.name, column.native, text)
    return len(events)


@FAMILY
@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.case("A5", "A6", "A11", verdict="=")
def test_stream_and_load_of_every_type_give_what_the_server_prints(
    name: str, nullable: bool, mysql_database: Callable[[str], str]
) -> None:
    sql = Sql(mysql_database(name))
    columns = columns_of(sql)
    build(sql, columns, nullable)
    schema = sql.table("t")
    start = sql.place()
    insert_all(sql, columns, nullable)
    decoder = decoder_of(sql, schema)

    decoder.feed(sql.events(start))
    streamed = decoder.events(schema.table)
    decoder.load(sql, schema)
    loaded = decoder.events(schema.table)

    assert check_events(sql, schema, streamed, "c") == check_events(sql, schema, loaded, "r") > 5
    sql.close()


@FAMILY
@pytest.mark.case("A8", verdict="=")
def test_text_of_every_character_set_becomes_utf8(name: str, mysql_database: Callable[[str], str]) -> None:
    sql = Sql(mysql_database(name))
    have = {row[0] for row in sql.run("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS")}
    charsets = [c for c in CHARSETS if c in have]
    definition = ", ".join(f"c_{c} varchar(300) character set {c}, e_{c} enum('x') character set {c}" for c in charsets)
    sql.run(f"CREATE TABLE t(id int primary key, {definition}) ROW_FORMAT=DYNAMIC")
    schema = sql.table("t")
    start = sql.place()
    values = ", ".join(f"'{SAMPLES.get(c, 'é日😀' if c != 'ucs2' else 'é日')}', 'x'" for c in charsets)
    sql.run(f"INSERT INTO t VALUES(1, {values})")
    names = ", ".join(f"CONVERT(c_{c} USING utf8mb4)" for c in charsets)
    truth = sql.run(f"SELECT {names} FROM t")[0]
    # 5.7 makes some of these labels empty, and says so itself.
    labels = sql.run(f"SELECT {', '.join(f'e_{c}' for c in charsets)} FROM t")[0]
    decoder = decoder_of(sql, schema)

    decoder.feed(sql.events(start))
    decoder.load(sql, schema)

    for _, value in decoder.events(schema.table):
        assert value is not None
        for charset, text, label in zip(charsets, truth, labels, strict=True):
            assert value["after"][f"c_{charset}"] == text, charset
            assert value["after"][f"e_{charset}"] == label
    sql.close()


@pytest.mark.parametrize("name", MARIADB_NAMES)
@pytest.mark.case("A10", verdict="=")
def test_random_uuids_and_addresses_of_mariadb_are_exact(
    name: str, seed: int, mysql_database: Callable[[str], str]
) -> None:
    random = Random(f"{seed} uuid {name}")
    sql = Sql(mysql_database(name))
    sql.run("CREATE TABLE t(id int primary key, u uuid, i inet6)")
    schema = sql.table("t")
    start = sql.place()
    rows = []
    for n in range(400):
        raw = random.randbytes(16)
        address = b"".join(
            random.choice([b"\0\0", b"\0\0", b"\xff\xff", random.randbytes(2), b"\0\1"]) for _ in range(8)
        )
        rows.append(f"({n}, CAST(x'{raw.hex()}' AS UUID), CAST(x'{address.hex()}' AS INET6))")
    sql.run(f"INSERT INTO t VALUES {', '.join(rows)}")
    truth = {row[0]: row[1:] for row in sql.run("SELECT id, CAST(u AS CHAR), CAST(i AS CHAR) FROM t")}
    decoder = decoder_of(sql, schema)

    decoder.feed(sql.events(start))

    for key, value in decoder.events(schema.table):
        assert key is not None and value is not None
        assert (value["after"]["u"], value["after"]["i"]) == truth[key["id"]]
    sql.close()


@FAMILY
def test_random_numbers_are_the_same_in_stream_and_load(
    name: str, seed: int, mysql_database: Callable[[str], str]
) -> None:
    random = Random(f"{seed} numbers {name}")
    sql = Sql(mysql_database(name))
    sql.run(
        "CREATE TABLE t(id int primary key, f float, d double, n decimal(38,17), m decimal(18,4), b bigint unsigned)"
    )
    schema = sql.table("t")
    start = sql.place()
    rows = []
    for n in range(300):
        single = struct.unpack("<f", random.randbytes(4))[0]
        double = struct.unpack("<d", random.randbytes(8))[0]
        single, double = (x if x == x and abs(x) < 1e38 else 0.5 for x in (single, double))
        double = double if abs(double) > 1e-300 else 1.5
        decimal = Decimal(random.randrange(-(10**38) + 1, 10**38)).scaleb(-17)
        small = Decimal(random.randrange(-(10**18) + 1, 10**18)).scaleb(-4)
        rows.append(f"({n}, {single!r}, {double!r}, {decimal:f}, {small:f}, {random.getrandbits(64)})")
    sql.run(f"INSERT INTO t VALUES {', '.join(rows)}")
    decoder = decoder_of(sql, schema)

    decoder.feed(sql.events(start))
    streamed = [(key, value["after"]) for key, value in decoder.events(schema.table) if value]
    decoder.load(sql, schema, " ORDER BY id")
    loaded = [(key, value["after"]) for key, value in decoder.events(schema.table) if value]

    assert streamed == loaded
    assert len(streamed) == 300
    truth = {row[0]: row[1:] for row in sql.run("SELECT id, n, m, b FROM t")}
    for key, after in streamed:
        assert key is not None
        assert (after["n"], after["m"], after["b"]) == truth[key["id"]]
    sql.close()


@pytest.mark.case("A3", verdict="=", on="MYSQL80")
def test_years_are_utc(mysql_database: Callable[[str], str]) -> None:
    """TIMESTAMP does not depend on the server's or the writer's time zone."""
    sql = Sql(mysql_database("MYSQL80"))
    sql.run("CREATE TABLE t(id int primary key, ts timestamp(6) null)")
    schema, start = sql.table("t"), sql.place()
    sql.run("SET time_zone = '+08:00'", "INSERT INTO t VALUES(1, '2024-01-01 08:00:00.5')", "SET time_zone = '+00:00'")
    decoder = decoder_of(sql, schema)
    decoder.feed(sql.events(start))
    decoder.load(sql, schema)
    texts = {value["after"]["ts"] for _, value in decoder.events(schema.table) if value}
    moment = datetime(2024, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)
    assert texts == {moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    sql.close()
