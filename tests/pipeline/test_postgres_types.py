"""Values by snapshot and by stream are the same, and fastavro reads what the database prints."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import LogReading, postgres_source, running_capture
from fix_servers import wait_until

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers

# column type, SQL literal, what fastavro gives, exact text (None: the Avro value says all)
D = decimal.Decimal
CASES: list[tuple[str, str, Any, str | None]] = [
    ("smallint", "'-32768'", -32768, None),
    ("integer", "'-2147483648'", -2147483648, None),
    ("bigint", "'-9223372036854775808'", -9223372036854775808, None),
    ("bigint", "'9223372036854775807'", 9223372036854775807, None),
    ("oid", "'4294967295'", 4294967295, None),
    ("boolean", "'t'", True, None),
    ("real", "'1.5'", 1.5, None),
    ("real", "'-Infinity'", float("-inf"), None),
    ("double precision", "'1.7976931348623157e308'", 1.7976931348623157e308, None),
    ("double precision", "'-0'", -0.0, None),
    ("text", "E'a\\tb\\nc\\\\d\\re'", "a\tb\nc\\d\re", None),
    ("text", "''", "", None),
    ("text", "'\\N'", "\\N", None),
    ("text", "'é😀'", "é😀", None),
    ("varchar(10)", "'x'", "x", None),
    ("character(4)", "'x'", "x   ", None),
    ("numeric(10,2)", "'-12345678.90'", D("-12345678.90"), None),
    ("numeric(10,2)", "'NaN'", None, "NaN"),
    ("numeric(38,10)", "'1234567890123456789012345678.0123456789'", D("1234567890123456789012345678.0123456789"), None),
    ("numeric", "'1e-30'", {"scale": 30, "value": b"\x01"}, None),
    ("numeric", "'-12.5'", {"scale": 1, "value": b"\x83"}, None),
    ("numeric", "'NaN'", None, "NaN"),
    ("numeric(6,-2)", "'12300'", {"scale": 0, "value": b"\x30\x0c"}, None),
    ("money", "'-1234.56'", D("-1234.56"), None),
    ("date", "'2024-02-29'", 19782, None),
    ("date", "'infinity'", 2147483647, "infinity"),
    ("date", "'4713-01-01 BC'", "ask", None),
    ("date", "'5874897-12-31'", "ask", None),
    ("timestamp", "'2024-01-02 03:04:05.000006'", 1704164645000006, None),
    ("timestamp(3)", "'2024-01-02 03:04:05.678'", 1704164645678, None),
    ("timestamp", "'0001-01-01 00:00:00 BC'", -62167219200000000, None),
    ("timestamp", "'294276-12-31 23:59:59.999999'", None, "294276-12-31 23:59:59.999999"),
    ("timestamp", "'infinity'", 9223372036825200000, "infinity"),
    ("timestamptz", "'2024-01-02 03:04:05.5+02'", "2024-01-02T01:04:05.500000Z", None),
    ("timestamptz(0)", "'2024-01-02 03:04:05+00'", "2024-01-02T03:04:05Z", None),
    ("timestamptz", "'-infinity'", "-infinity", None),
    ("timestamptz", "'294276-12-31 23:59:59.999999+00'", "+294276-12-31T23:59:59.999999Z", None),
    ("timestamptz", "'0044-03-15 12:00:00+00 BC'", "-0043-03-15T12:00:00.000000Z", None),
    ("time", "'24:00:00'", 86400000000, None),
    ("time(3)", "'01:02:03.456'", 3723456, None),
    ("timetz", "'12:00:00.25+05:30'", "06:30:00.25Z", "12:00:00.25+05:30"),
    ("interval", "'1 mon -1 day 02:00:00.5'", 2629800000000 - 86400000000 + 7200500000, "1 mon -1 days +02:00:00.5"),
    ("bytea", "'\\x00ff5c0a09'", b"\x00\xff\\\n\t", None),
    ("bit(1)", "B'1'", True, None),
    ("bit(12)", "B'000000001111'", b"\x0f\x00", "000000001111"),
    ("varbit", "B'101'", b"\x05", "101"),
    ("json", "'{\"a\": [1,  null]}'", '{"a": [1,  null]}', None),
    ("jsonb", '\'{"b":1,"a":2}\'', '{"a": 2, "b": 1}', None),
    ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000", None),
    ("xml", "'<a/>'", "<a/>", None),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8", None),
    ("int4range", "'[1,5)'", "[1,5)", None),
    ("point", "'(1,2)'", "(1,2)", None),
    ("tsvector", "'a fat cat'", "'a' 'cat' 'fat'", None),
    ("integer[]", "'{1,NULL,3}'", [1, None, 3], None),
    ("integer[]", "'{}'", [], None),
    ("integer[]", "'[0:1]={1,2}'", None, "[0:1]={1,2}"),
    ("text[]", '\'{NULL,"","a,b","{}","q\\"\\\\"}\'', [None, "", "a,b", "{}", 'q"\\'], None),
    ("text[]", "'{{a,b},{c,d}}'", None, "{{a,b},{c,d}}"),
    ("numeric(6,2)[]", "'{1.5,NaN}'", None, "{1.50,NaN}"),
    ("timestamptz[]", "'{2024-01-02 03:04:05+00}'", ["2024-01-02T03:04:05.000000Z"], None),
    ("mood", "'b'", "b", None),
    ("mood[]", "'{a,b}'", ["a", "b"], None),
    ("posint", "'7'", 7, None),
    ("pair", '\'(1,"q""x")\'', '(1,"q""x")', None),
]


def _setup(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('a', 'b')")
        connection.execute("CREATE DOMAIN posint AS int CHECK (VALUE > 0)")
        connection.execute("CREATE TYPE pair AS (x int, y text)")
        for n, (kind, literal, _, _) in enumerate(CASES):
            connection.execute(f"CREATE TABLE t{n} (id int PRIMARY KEY, v {kind})")
            connection.execute(f"ALTER TABLE t{n} REPLICA IDENTITY FULL")
            connection.execute(f"INSERT INTO t{n} VALUES (1, {literal}), (2, NULL)")


def _stream_writes(url: str) -> None:
    with psycopg.connect(url) as connection:
        for n, (_, literal, _, _) in enumerate(CASES):
            connection.execute(f"INSERT INTO t{n} VALUES (3, {literal}), (4, NULL)")
            connection.execute(f"UPDATE t{n} SET v = NULL WHERE id = 3")


@pytest.mark.parametrize("version", ["POSTGRES15", "POSTGRES18"])
@pytest.mark.case("A14", "A15", verdict="=")
def test_every_type_reads_the_same_by_snapshot_and_by_stream(
    version: str, postgres_database: Any, tmp_path: Path
) -> None:
    url = postgres_database(version)
    _setup(url)
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture:

        def loaded() -> bool:
            capture.check()
            return bool(capture.status.tables) and all(t.state == "streaming" for t in capture.status.tables.values())

        wait_until(loaded, 90, "the load is done")
        before = capture.status.transactions
        _stream_writes(url)
        wait_until(lambda: capture.status.transactions > before, 30, "the transaction")
    got: dict[tuple[str, int, str], tuple[Any, Any]] = {}
    for topic, key, event in LogReading(log).events():
        if event is not None and key is not None and "op" in event:
            image = "before" if event["op"] == "u" else "after"
            exact = (event["exact_values"] or {}).get(f"{image}.v")
            got[topic, key["id"], event["op"]] = (event[image]["v"], exact)
    wrong = []
    for n, (kind, literal, value, exact) in enumerate(CASES):
        topic = f"t.public.t{n}"
        if value == "ask":
            value = _days(url, literal)
        wanted = (value, exact)
        for place in ((1, "r"), (3, "c"), (3, "u")):
            seen = got[topic, *place]
            if repr(seen) != repr(wanted):
                wrong.append((kind, literal, place, seen, wanted))
        assert got[topic, 2, "r"] == got[topic, 4, "c"] == (None, None)
    assert not wrong


def _days(url: str, literal: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT {literal}::date - date '1970-01-01'").fetchone()
        assert row is not None
        return int(row[0])


def test_dates_agree_with_python() -> None:
    from tailrace_capture.postgres.pgoutput import days

    for year in (1, 4, 100, 1582, 1900, 1970, 2000, 2024, 9999):
        for month, day in ((1, 1), (2, 28), (3, 1), (12, 31)):
            assert days(year, month, day) == datetime.date(year, month, day).toordinal() - 719163
