"""Values from a real source to a real target: what both servers print for them is the same.

Random values of every type, between servers of today, are in tests/types; here is what stands apart: zero dates, MySQL 8.0, chosen
values in a server of another kind, and what is rejected there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from fix_command import tailrace

from tailrace_schemas.uri import parse_database_url

pytestmark = pytest.mark.servers
Databases = Callable[[str], str]

MYSQL_VALUES: list[tuple[str, list[str]]] = [
    ("tinyint", ["-128", "127"]),
    ("tinyint(1)", ["-1", "1"]),
    ("tinyint unsigned", ["255"]),
    ("smallint unsigned", ["65535"]),
    ("mediumint unsigned", ["16777215"]),
    ("int unsigned", ["4294967295"]),
    ("bigint", ["-9223372036854775808"]),
    ("bigint unsigned", ["18446744073709551615"]),
    ("float", ["0.1", "-3.4e38", "16777217"]),
    ("double", ["0.1", "1.7976931348623157e308", "123456789.123456789"]),
    ("decimal(10,2)", ["-0.01", "99999999.99"]),
    ("decimal(65,30)", ["-12345678901234567890123456789012345.5"]),
    ("bit(1)", ["b'1'", "b'0'"]),
    ("bit(10)", ["b'1000000101'"]),
    ("bit(64)", ["b'1000000000000000000000000000000000000000000000000000000000000001'"]),
    ("year", ["2024", "1901", "0"]),
    ("date", ["'2024-02-29'", "'1000-01-01'", "'9999-12-31'"]),
    ("datetime", ["'2024-02-29 01:02:03'"]),
    ("datetime(3)", ["'2024-02-29 01:02:03.004'"]),
    ("datetime(6)", ["'2024-02-29 01:02:03.000004'", "'1000-01-01 00:00:00'"]),
    ("timestamp NULL", ["'2024-10-27 01:30:00'"]),
    ("timestamp(6) NULL", ["'2037-01-19 03:14:07.999999'"]),
    ("time", ["'-838:59:59'", "'00:00:01'"]),
    ("time(6)", ["'-00:00:00.000001'", "'23:59:59.999999'"]),
    ("char(5)", ["'ab'", "''"]),
    ("varchar(20)", ["'x y '", "'é😀'", "'a\\'b\\\\c\\n'"]),
    ("varchar(20) CHARACTER SET latin1", ["'é'"]),
    ("text", ["'tab\\tnl\\n'"]),
    ("longtext", ["repeat('é', 40000)"]),
    ("binary(4)", ["x'00ff'", "x'41424344'"]),
    ("varbinary(20)", ["x'00ff5c0a0927'", "''"]),
    ("blob", ["x'00ff5c0a09271a'"]),
    ("longblob", ["repeat(x'00ff', 50000)"]),
    ("enum('a','b''c','d,e')", ["'a'", "'b\\'c'", "'d,e'"]),
    ("set('x','y','z')", ["'x,z'", "''"]),
    ("json", ['\'{"a": [1, null, "x\\\\u00e9"]}\'']),
    ("point", ["ST_GeomFromText('POINT(1 2)')"]),
    ("geometry", ["ST_GeomFromText('POINT(1 2)', 4326)"]),
]

ZERO_DATES: list[tuple[str, list[str]]] = [
    ("date", ["'0000-00-00'", "'2024-00-10'"]),
    ("datetime(6)", ["'0000-00-00'", "'2024-02-31 01:02:03.5'"]),
    ("timestamp NULL", ["'0000-00-00 00:00:00'"]),
]


def mysql_connection(url: str) -> Any:
    parts = parse_database_url(url)
    return pymysql.connect(
        host=parts.host,
        port=parts.port,
        user=parts.user,
        password=parts.password.reveal() if parts.password else "",
        database=parts.database,
        charset="utf8mb4",
        autocommit=True,
        init_command="SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'",
    )


def fill_mysql(url: str, offset: int, values: list[tuple[str, list[str]]]) -> None:
    with mysql_connection(url) as connection, connection.cursor() as c:
        for number, (type_, literals) in enumerate(values):
            c.execute(f"create table if not exists t{number} (id int primary key, v {type_})")
            for n, literal in enumerate([*literals, "NULL"]):
                c.execute(f"insert into t{number} values ({n + offset}, {literal})")


def mysql_texts(url: str, number: int) -> list[tuple[int, str | None]]:
    with mysql_connection(url) as connection, connection.cursor() as c:
        c.execute(f"select id, hex(concat('', v)) from t{number} order by id")
        return list(c.fetchall())


def run_twice(tmp_path: Path, source: str, target: str, fill: Callable[[int], None]) -> None:
    """Rows 0… by load, rows 100… by stream."""
    fill(0)
    for offset in (0, 100):
        if offset:
            fill(offset)
        ended = tailrace(tmp_path, "run", source, target, "--name", "types", "--until-current")
        assert ended.code == 0, ended.text


def with_progress(url: str) -> str:
    return f"{url}?progress={parse_database_url(url).database}.progress"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "values"), [("MARIADB118", ZERO_DATES), ("MYSQL80", ZERO_DATES + MYSQL_VALUES)])
@pytest.mark.case("A2", "A5", verdict="=")
def test_mysql_values_are_the_same_in_a_server_of_their_kind(
    name: str, values: list[tuple[str, list[str]]], mysql_database: Databases, tmp_path: Path
) -> None:
    source, target = mysql_database(name), mysql_database(name)
    run_twice(tmp_path, source, with_progress(target), lambda offset: fill_mysql(source, offset, values))
    for number, (type_, _) in enumerate(values):
        assert mysql_texts(target, number) == mysql_texts(source, number), type_


# type, literal, what Postgres then prints
MYSQL_IN_POSTGRES: list[tuple[str, str, str]] = [
    ("tinyint(1)", "-1", "-1"),
    ("int unsigned", "4294967295", "4294967295"),
    ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
    ("float", "0.5", "0.5"),
    ("double", "0.1", "0.1"),
    ("decimal(65,30)", "-12345678901234567890123456789012345.5", "-12345678901234567890123456789012345.5" + "0" * 29),
    ("bit(1)", "b'1'", "1"),
    ("bit(10)", "b'1000000101'", "1000000101"),
    ("year", "2024", "2024"),
    ("date", "'2024-02-29'", "2024-02-29"),
    ("datetime(6)", "'1000-01-01 00:00:00.000001'", "1000-01-01 00:00:00.000001"),
    ("timestamp(3) NULL", "'2024-10-27 01:30:00.250'", "2024-10-27 01:30:00.25+00"),
    ("time(6)", "'-838:59:59'", "-838:59:59"),
    ("char(5)", "'ab'", "ab"),
    ("varchar(20)", "'x y '", "x y "),
    ("varchar(20) CHARACTER SET latin1", "'é'", "é"),
    ("longtext", "'tab\\tnl\\n'", "tab\tnl\n"),
    ("binary(4)", "x'00ff'", "\\x00ff0000"),
    ("blob", "''", "\\x"),
    ("enum('a','b''c','d,e')", "'b\\'c'", "b'c"),
    ("set('x','y','z')", "'x,z'", "x,z"),
    ("json", '\'{"a": "\\\\u0000"}\'', '{"a": "\\u0000"}'),
    ("point", "ST_GeomFromText('POINT(1 2)')", "\\x0101000000000000000000f03f0000000000000040"),
    ("point", "ST_GeomFromText('POINT(1 2)', 3857)", "\\x0101000020110f0000000000000000f03f0000000000000040"),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["MARIADB118", "MYSQL80"])
def test_mysql_values_in_postgres(
    name: str, mysql_database: Databases, postgres_database: Databases, tmp_path: Path
) -> None:
    source, target = mysql_database(name), postgres_database("POSTGRES18")
    values = [(type_, [literal]) for type_, literal, _ in MYSQL_IN_POSTGRES]
    run_twice(tmp_path, source, target, lambda offset: fill_mysql(source, offset, values))
    schema = parse_database_url(source).database
    with psycopg.connect(target, autocommit=True) as c:
        c.execute("set timezone = 'UTC'")
        for number, (type_, _, expected) in enumerate(MYSQL_IN_POSTGRES):
            rows = c.execute(f"select v::text from {schema}.t{number} order by id".encode()).fetchall()
            assert rows == [(expected,), (None,), (expected,), (None,)], type_


@pytest.mark.timeout(120)
@pytest.mark.parametrize("policy", ["stop", "null"])
@pytest.mark.case("A2", verdict="null or STOP(ZERO_DATE)", on="MARIADB118")
def test_a_zero_date_stops_or_becomes_null_in_postgres(
    policy: str, mysql_database: Databases, postgres_database: Databases, tmp_path: Path
) -> None:
    source, target = mysql_database("MARIADB118"), postgres_database("POSTGRES18")
    fill_mysql(source, 0, [("date", ["'0000-00-00'", "'2024-02-29'", "'2024-00-10'", "'2023-02-29'"])])
    sinks = f"{{name: postgres, url: {target}}}"
    config = tmp_path / "pipeline.yaml"
    config.write_text(f"name: types\nsource: {{url: '{source}'}}\nzero_dates: '{policy}'\nsinks: [{sinks}]\n")
    ended = tailrace(tmp_path, "run", str(config), "--until-current")
    if policy == "stop":
        assert ended.code == 1
        assert 'column "v"' in ended.text
        assert "zero_dates" in ended.text
        return
    assert ended.code == 0, ended.text
    with psycopg.connect(target) as c:
        schema = parse_database_url(source).database
        rows = c.execute(f"select v::text from {schema}.t0 order by id".encode()).fetchall()
    assert rows == [(None,), ("2024-02-29",), (None,), (None,), (None,)]


# type, literal, what MySQL then prints
POSTGRES_IN_MYSQL: list[tuple[str, str, str]] = [
    ("boolean", "'t'", "1"),
    ("bigint", "'-9223372036854775808'", "-9223372036854775808"),
    ("real", "'0.5'", "0.5"),
    ("double precision", "'0.1'", "0.1"),
    ("numeric(10,2)", "'-12345678.90'", "-12345678.90"),
    ("numeric", "'-12.5'", "-12.500000000000000000000000000000"),
    ("numeric(80,2)", "'1.5'", "1.50"),
    ("text", "E'a\\tb\\nc\\\\d\\re'''", "a\tb\nc\\d\re'"),
    ("text", "'é😀'", "é😀"),
    ("varchar(10)", "'x '", "x "),
    ("bytea", "'\\x41ff'", "41FF"),
    ("date", "'2024-02-29'", "2024-02-29"),
    ("timestamp", "'2024-01-02 03:04:05.000006'", "2024-01-02 03:04:05.000006"),
    ("timestamp(3)", "'2024-01-02 03:04:05.678'", "2024-01-02 03:04:05.678"),
    ("timestamptz", "'2024-01-02 03:04:05.5+02'", "2024-01-02 01:04:05.500000"),
    ("time", "'24:00:00'", "24:00:00.000000"),
    ("timetz", "'12:00:00.25+05:30'", "12:00:00.25+05:30"),
    ("interval", "'1 mon -1 day 02:00:00.5'", "1 mon -1 days +02:00:00.5"),
    ("bit(12)", "B'000001000001'", "65"),
    ("varbit", "B'0101'", "0101"),
    ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
    ("xml", "'<a/>'", "<a/>"),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
    ("json", "'{\"a\": [1, null]}'", '{"a": [1, null]}'),
    ("integer[]", "'{1,NULL,3}'", "[1, null, 3]"),
    ("integer[]", "'{{1,2},{3,4}}'", "[[1, 2], [3, 4]]"),
    ("text[]", "'{\"a,b\",NULL}'", '["a,b", null]'),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["MARIADB118", "MYSQL80"])
def test_postgres_values_in_mysql(
    name: str, mysql_database: Databases, postgres_database: Databases, tmp_path: Path
) -> None:
    source, target = postgres_database("POSTGRES18"), mysql_database(name)

    def fill(offset: int) -> None:
        with psycopg.connect(source, autocommit=True) as c:
            c.execute("create schema if not exists shop")
            for number, (type_, literal, _) in enumerate(POSTGRES_IN_MYSQL):
                c.execute(f"create table if not exists shop.t{number} (id int primary key, v {type_})".encode())
                c.execute(f"insert into shop.t{number} values ({offset}, {literal}), ({offset + 1}, NULL)".encode())

    run_twice(tmp_path, source, with_progress(target), fill)
    with mysql_connection(target) as connection, connection.cursor() as c:
        for number, (type_, _, expected) in enumerate(POSTGRES_IN_MYSQL):
            shown = {"bytea": "hex(v)", "bit(12)": "v + 0"}.get(type_, "v")
            c.execute(f"select cast({shown} as char) from t{number} order by id")
            found = [None if text is None else text.replace(",", ", ").replace(",  ", ", ") if "[]" in type_ else text
                     for (text,) in c.fetchall()]  # fmt: skip
            wanted = expected.replace('"a, b"', '"a,b"')
            assert [None if t is None else t.replace('"a, b"', '"a,b"') for t in found] == [wanted, None] * 2, type_


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["MARIADB118", "MYSQL80"])
@pytest.mark.parametrize(
    ("type_", "literal"),
    [
        ("double precision", "'NaN'"),
        ("real", "'Infinity'"),
        ("numeric(10,2)", "'NaN'"),
        ("numeric", "'1e-31'"),
        ("numeric", "'1e35'"),
        ("date", "'infinity'"),
        ("date", "'0044-03-15 BC'"),
        ("timestamp", "'10000-01-01'"),
        ("timestamptz", "'-infinity'"),
    ],
)
def test_what_mysql_cannot_hold_is_rejected_and_never_changed(
    name: str, type_: str, literal: str, mysql_database: Databases, postgres_database: Databases, tmp_path: Path
) -> None:
    source, target = postgres_database("POSTGRES18"), mysql_database(name)
    with psycopg.connect(source, autocommit=True) as c:
        c.execute(f"create schema shop; create table shop.t0 (id int primary key, v {type_})".encode())
        c.execute(f"insert into shop.t0 values (1, {literal})".encode())
    ended = tailrace(tmp_path, "run", source, with_progress(target), "--name", "types", "--until-current")
    assert ended.code == 1, ended.text
    assert "ROW_REJECTED" in ended.text, ended.text
    assert 'column "v"' in ended.text
