"""Values from a real source to a real target: what both servers print for them is the same."""

from pathlib import Path

import psycopg
import pytest
from fix_command import tailrace

pytestmark = pytest.mark.servers

POSTGRES_VALUES: list[tuple[str, list[str]]] = [
    ("smallint", ["'-32768'"]),
    ("integer", ["'-2147483648'"]),
    ("bigint", ["'-9223372036854775808'", "'9223372036854775807'"]),
    ("oid", ["'4294967295'"]),
    ("boolean", ["'t'", "'f'"]),
    ("real", ["'1.5'", "'0.1'", "'-Infinity'", "'NaN'", "'3.4028235e38'", "'1e-45'"]),
    ("double precision", ["'1.7976931348623157e308'", "'-0'", "'5e-324'", "'NaN'", "'0.1'"]),
    ("text", ["E'a\\tb\\nc\\\\d\\re'", "''", "'\\N'", "'é😀'", "E'\\x01'"]),
    ("varchar(10)", ["'x '"]),
    ("character(4)", ["'x'"]),
    ("numeric(10,2)", ["'-12345678.90'", "'NaN'"]),
    ("numeric(38,10)", ["'1234567890123456789012345678.0123456789'"]),
    ("numeric", ["'1e-30'", "'-12.50'", "'NaN'", "'1e100'"]),
    ("numeric(6,-2)", ["'12300'"]),
    ("money", ["'-1234.56'"]),
    ("date", ["'2024-02-29'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"]),
    ("timestamp", ["'2024-01-02 03:04:05.000006'", "'0001-01-01 00:00:00 BC'", "'infinity'", "'294246-12-31 23:59:59'"]),
    ("timestamp(3)", ["'2024-01-02 03:04:05.678'", "'-infinity'"]),
    ("timestamptz", ["'2024-01-02 03:04:05.5+02'", "'-infinity'", "'294276-12-31 23:59:59.999999+00'",
                     "'0044-03-15 12:00:00+00 BC'", "'4713-01-01 00:00:00+00 BC'"]),
    ("timestamptz(0)", ["'2024-01-02 03:04:05+00'"]),
    ("time", ["'24:00:00'", "'00:00:00.000001'"]),
    ("time(3)", ["'01:02:03.456'"]),
    ("timetz", ["'12:00:00.25+05:30'", "'12:00:00+00'"]),
    ("interval", ["'1 mon -1 day 02:00:00.5'", "'-00:00:01'", "'100 years'"]),
    ("bytea", ["'\\x00ff5c0a09'", "''"]),
    ("bit(1)", ["B'1'", "B'0'"]),
    ("bit(12)", ["B'000000001111'"]),
    ("varbit", ["B'101'", "B''"]),
    ("json", ["'{\"a\": [1,  null], \"a\": \"\\u0041\"}'"]),
    ("jsonb", ['\'{"b":1,"a":2}\'', "'12345678901234567890.5'"]),
    ("uuid", ["'123e4567-e89b-12d3-a456-426655440000'"]),
    ("xml", ["'<a/>'"]),
    ("inet", ["'10.0.0.1/8'"]),
    ("int4range", ["'[1,5)'"]),
    ("point", ["'(1,2)'"]),
    ("tsvector", ["'a fat cat'"]),
    ("integer[]", ["'{1,NULL,3}'", "'{}'", "'[0:1]={1,2}'", "'{{1,2},{3,4}}'"]),
    ("text[]", ['\'{NULL,"","a,b","{}","q\\"\\\\"}\'', "'{{a,b},{c,d}}'"]),
    ("numeric(6,2)[]", ["'{1.5,NaN}'", "'{1.5,-0.01}'"]),
    ("timestamptz[]", ["'{\"2024-01-02 03:04:05.5+02\",NULL}'"]),
    ("bytea[]", ["'{\"\\\\\\\\x0aff\"}'"]),
    ("boolean[]", ["'{t,f,NULL}'"]),
    ("date[]", ["'{2024-01-01}'"]),
    ("uuid[]", ["'{123e4567-e89b-12d3-a456-426655440000}'"]),
]  # fmt: skip


def fill_postgres(url: str, offset: int) -> None:
    with psycopg.connect(url, autocommit=True) as c:
        for number, (type_, values) in enumerate(POSTGRES_VALUES):
            c.execute(f"create table if not exists shop.t{number} (id int primary key, v {type_})".encode())
            for n, value in enumerate([*values, "NULL"]):
                c.execute(f"insert into shop.t{number} values ({n + offset}, {value})".encode())


def postgres_texts(url: str, number: int) -> list[tuple[int, str | None]]:
    with psycopg.connect(url, autocommit=True) as c:
        c.execute("set timezone = 'UTC'")
        return c.execute(f"select id, v::text from shop.t{number} order by id".encode()).fetchall()


@pytest.mark.timeout(120)
def test_postgres_values_are_the_same_in_postgres(postgres_database, tmp_path: Path) -> None:
    source, target = postgres_database("POSTGRES18"), postgres_database("POSTGRES18")
    with psycopg.connect(source, autocommit=True) as c:
        c.execute("create schema shop")
        c.execute("create type shop.mood as enum ('sad', 'ok')")
    fill_postgres(source, 0)
    for offset in (0, 100):
        if offset:
            fill_postgres(source, offset)
        ended = tailrace(tmp_path, "run", source, target, "--name", "types", "--until-current")
        assert ended.code == 0, ended.text
    for number, (type_, values) in enumerate(POSTGRES_VALUES):
        expected = postgres_texts(source, number)
        assert len(expected) == 2 * len(values) + 2
        assert postgres_texts(target, number) == expected, type_
