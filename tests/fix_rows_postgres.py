"""Random rows of every type of Postgres 18, a family of types to a table."""

from __future__ import annotations

import ipaddress
import json
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import fix_rows as f
from fix_rows import Family, Make, Values

# What the families' types stand on.
PREPARE = """
CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext; CREATE EXTENSION IF NOT EXISTS ltree;
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'très, {bien}', '');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(9,3);
CREATE DOMAIN temper AS mood;
CREATE TYPE pair AS (x int, y text, z timestamptz);
CREATE DOMAIN couple AS pair;
CREATE SCHEMA other; CREATE TYPE other.bool AS (x int, y int); CREATE TYPE other.date AS (x int, y int);
"""


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literal(make: Callable[[Random], str]) -> Make:
    return lambda random: quoted(make(random))


def edges(*texts: str) -> tuple[str, ...]:
    return tuple(quoted(text) for text in texts)


def of(*texts: str) -> Make:
    return lambda random: random.choice(texts)


def text(longest: int) -> Make:
    return lambda random: f.characters(random, longest)


def values(type_: str, make: Make, *first: str) -> Values:
    return Values(type_, edges(*first), literal(make))


def day(random: Random) -> str:
    """Of the whole range, BC written as the server does."""
    year = random.choice((random.randint(-4712, 12000), random.randint(1900, 2100), random.randint(-4712, 5874897)))
    bc = " BC" if year < 0 else ""
    return f"{abs(year) or 1:04d}-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}{bc}"


def stamp(digits: int, zone: bool = False) -> Make:
    def make(random: Random) -> str:
        year = random.choice((random.randint(-4712, 12000), random.randint(1900, 2100), random.randint(-4712, 294275)))
        date = f"{abs(year) or 1:04d}-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}"
        offset = random.choice(("+00", "+05:30", "-11")) if zone else ""
        return f"{date} {f.clock(random, 24, digits)}{offset}{' BC' if year < 0 else ''}"

    return make


def offset(random: Random) -> str:
    return f"{random.choice('+-')}{random.randint(0, 15):02d}:{random.choice((0, 30, 59)):02d}"


def interval(random: Random) -> str:
    numbers = [random.choice((0, 0, random.randint(-200, 200))) for _ in range(3)]
    sign = random.choice("+-")
    time = f.clock(random, random.choice((1, 24, 2000)), 6)
    return f"{numbers[0]} years {numbers[1]} mons {numbers[2]} days {sign}{time}"


def number(random: Random) -> str:
    """A numeric of any length and scale."""
    digits = random.choice((1, 5, 18, 19, 40, 200))
    value = random.randrange(10**digits)
    return f"{random.choice(('', '-'))}{value}e{random.randint(-60, 60)}"


def point(random: Random) -> str:
    return f"({f.float32(random)},{random.randint(-1000, 1000) / 8})"


def points(random: Random, count: int) -> str:
    return ",".join(f"({random.randint(-1000, 1000) / 8},{random.randint(-99, 99)})" for _ in range(count))


def address(random: Random) -> str:
    if random.random() < 0.5:
        host = str(ipaddress.IPv4Address(random.getrandbits(32)))
        return f"{host}/{random.randint(0, 32)}" if random.random() < 0.5 else host
    groups = b"".join(random.choice((b"\0\0", b"\0\1", b"\xff\xff", random.randbytes(2))) for _ in range(8))
    return f"{ipaddress.IPv6Address(groups)}/{random.randint(0, 128)}"


def network(random: Random) -> str:
    return str(ipaddress.ip_network((random.getrandbits(32) & 0xFFFF0000, 16)))


def colons(count: int) -> Make:
    return lambda random: ":".join(f"{random.randrange(256):02x}" for _ in range(count))


def spread(item: Make) -> Make:
    """A range over two items, in order by the server's own comparison (it refuses others): low numbers first."""

    def make(random: Random) -> str:
        low = item(random)
        return random.choice(("empty", "(,)", f"[{low},)", f"(,{low}]", f"[{low},{low}]"))

    return make


def many(item: Make) -> Make:
    return lambda random: random.choice(("{}", f"{{{item(random)}}}"))


def array(item: Make, *, deep: bool = True) -> Make:
    """An array literal with NULLs, sometimes of two dimensions, sometimes with bounds of its own."""

    def one(random: Random) -> str:
        if random.random() < 0.15:
            return "NULL"
        return '"' + item(random).replace("\\", "\\\\").replace('"', '\\"') + '"'

    def make(random: Random) -> str:
        size = random.randrange(4)
        flat = [one(random) for _ in range(size)]
        if deep and size and random.random() < 0.2:
            return "{" + ",".join("{" + ",".join(one(random) for _ in range(size)) + "}" for _ in range(2)) + "}"
        if deep and size and random.random() < 0.1:
            return f"[0:{size - 1}]={{{','.join(flat)}}}"
        return "{" + ",".join(flat) + "}"

    return make


def composite(random: Random) -> str:
    words = f.characters(random, 8).replace("\\", "\\\\").replace('"', '""')
    return f'({random.randint(-99, 99)},"{words}","2024-02-03 04:05:06.7+00")'


def words(random: Random) -> str:
    return " ".join(random.choices(("cat:1A,2", "fat:7", "'it''s':3", "rat"), k=random.randrange(1, 4)))


def pairs(random: Random) -> str:
    def word() -> str:
        return '"' + f.characters(random, 6).replace("\\", "\\\\").replace('"', '\\"') + '"'

    return ", ".join(f"{word()}=>{random.choice((word(), 'NULL'))}" for _ in range(random.randrange(4)))


def binary(size: int) -> Make:
    return lambda random: "".join(random.choices("01", k=size))


def any_binary(random: Random) -> str:
    return binary(random.choice((0, 1, 7, 8, 9, 40)))(random)


def hexadecimal(longest: int) -> Make:
    return lambda random: "\\x" + f.octets(random, longest).hex()


def unique(random: Random) -> str:
    return str(uuid.UUID(bytes=random.randbytes(16)))


def positive(random: Random) -> str:
    return str(random.randint(1, 2**31 - 1))


def integer(bits: int) -> Make:
    return f.integer(bits)


LARGE = "x" * 5000 + "é\\'" * 3000  # stored out of line, so that updates of other columns do not send it

FAMILIES: Family = {
    "integers": (
        values("smallint", integer(16), "-32768", "32767"),
        values("integer", integer(32), "-2147483648", "2147483647"),
        values("bigint", integer(64), "-9223372036854775808", "9223372036854775807"),
        values("oid", f.integer(32, False), "4294967295"),
        values("boolean", of("t", "f")),
        values("positive", positive, "1", "2147483647"),
    ),
    "decimals": (
        values("numeric(10,2)", f.decimal(10, 2), "NaN", "-99999999.99", "0"),
        values("numeric(18,0)", f.decimal(18, 0), "999999999999999999", "-999999999999999999"),
        values("numeric(19,4)", f.decimal(19, 4), "-999999999999999.9999"),
        values("numeric(38,10)", f.decimal(38, 10), "NaN", "1234567890123456789012345678.0123456789"),
        values("numeric(200,100)", f.decimal(200, 100)),
        values("numeric", number, "NaN", "Infinity", "-Infinity", "0", "1e1000", "-1e-1000", "0.000"),
        values("numeric(6,-2)", f.decimal(8, 0), "12345678"),
        values("numeric(3,5)", of("0.00999", "-0.00001", "0")),
        values("money", f.decimal(16, 2), "-92233720368547758.08", "92233720368547758.07"),
        values("price", f.decimal(9, 3), "NaN"),
    ),
    "floats": (
        values("real", f.float32, "NaN", "Infinity", "-Infinity", "1e-45", "-0", "3.4028235e38"),
        values("double precision", f.float64, "NaN", "Infinity", "-Infinity", "5e-324", "-0", "1.7976931348623157e308"),
    ),
    "texts": (
        values("text", text(300), "", "\\N", "\\.", LARGE),
        values("varchar(30)", text(30), "x "),
        values("varchar", text(60)),
        values("character(12)", text(12), "", "x"),
        values('"char"', of("a", "\\377", "'", "")),
        values("name", of("a", "é" * 31, "b c")),
        values("citext", text(40), "AbC"),
        values("mood", of("sad", 'it\'s "ok"', "très, {bien}", "")),
        values("temper", of("sad", "")),
    ),
    "bytes": (
        values("bytea", hexadecimal(300), "\\x", "\\x00ff5c0a09", "\\x" + "5c" * 9000),
        values("bit(1)", binary(1)),
        values("bit", binary(1)),
        values("bit(12)", binary(12)),
        values("bit(70)", binary(70)),
        values("bit varying", any_binary, ""),
        values("bit varying(50)", any_binary),
    ),
    "dates": (
        values("date", day, "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01 BC", "0001-01-01"),
        values("time", lambda r: f.clock(r, 24, 6), "24:00:00", "00:00:00.000001"),
        values("time(3)", lambda r: f.clock(r, 24, 3), "24:00:00"),
        values("time(0)", lambda r: f.clock(r, 24, 0)),
        values("timetz", lambda r: f.clock(r, 24, 6) + offset(r), "24:00:00-15:59", "00:00:00+15:59:59"),
        values("timetz(2)", lambda r: f.clock(r, 24, 2) + offset(r)),
        values("timestamp", stamp(6), "infinity", "-infinity", "294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC"),
        values("timestamp(3)", stamp(3), "infinity", "294276-12-31 23:59:59.999", "0044-03-15 12:00:00.001 BC"),
        values("timestamp(0)", stamp(0), "-infinity", "1969-12-31 23:59:59"),
        values("timestamptz", stamp(6, True), "infinity", "294276-12-31 23:59:59.999999+00", "4713-01-01 00:00:00+00 BC"),
        values("timestamptz(3)", stamp(3, True), "-infinity"),
        values("timestamptz(0)", stamp(0, True)),
        values("interval", interval, "infinity", "-infinity", "178000000 years", "-00:00:00.000001", "0"),
        values("interval(3)", interval),
        values("interval day to second", interval),
        values("interval year to month", interval),
    ),
    "documents": (
        values("json", f.json_text, '{"a": [1,  null], "a": "\\u0041"}', '"\\u0000"', "1e400", "[" * 200 + "]" * 200),
        values("jsonb", f.json_text, "12345678901234567890.5", "1e100", "-0.10"),
        values("xml", lambda r: f"<a b='{r.getrandbits(20)}'>{r.choice(('', 'é', '<c/>'))}</a>", "<a/>"),
        values("jsonpath", of("$.a[*] ? (@ > 1)", 'strict $."b c"')),
        values("tsvector", words, ""),
        values("tsquery", of("'fat' & ('rat' | !'cat')", "'it''s':*A")),
        values("hstore", pairs, ""),
        values("ltree", of("", "a", "a.b_c.d1")),
    ),
    "network": (
        values("inet", address, "10.0.0.1/8", "::", "::ffff:1.2.3.4"),
        values("cidr", network, "2001:db8::/32"),
        values("macaddr", colons(6)),
        values("macaddr8", colons(8)),
        values("uuid", unique),
        values("pg_lsn", lambda r: f"{r.getrandbits(32):X}/{r.getrandbits(32):X}", "0/0"),
        values("xid8", f.integer(64, False)),
        values("xid", f.integer(32, False)),
        values("tid", lambda r: f"({r.getrandbits(20)},{r.getrandbits(8)})"),
        values("pg_snapshot", of("10:20:10,14,15", "1:1:")),
        values("regtype", of("integer", "text[]", "timestamp with time zone")),
    ),
    "geometric": (
        values("point", point, "(NaN,Infinity)", "(1e-300,-0)"),
        values("line", of("{1,2,3}", "{-1,0,0.1}")),
        values("lseg", lambda r: f"[{points(r, 2)}]"),
        values("box", lambda r: points(r, 2)),
        values("path", lambda r: r.choice(("[{}]", "({})")).format(points(r, 3))),
        values("polygon", lambda r: f"({points(r, 4)})"),
        values("circle", lambda r: f"<({r.randint(-9, 9)},{r.random()}),{r.random()}>"),
    ),
    "ranges": (
        values("int4range", spread(f.integer(30)), "[1,5)"),
        values("int8range", spread(integer(60))),
        values("numrange", spread(number)),
        values("tsrange", spread(lambda r: f'"{stamp(6)(r)}"'), "[-infinity,infinity]"),
        values("tstzrange", spread(lambda r: f'"{stamp(6, True)(r)}"')),
        values("daterange", spread(lambda r: f'"{day(r)}"')),
        values("int4multirange", many(spread(f.integer(30))), "{[1,3),[7,9)}"),
        values("nummultirange", many(spread(number))),
        values("tstzmultirange", many(spread(lambda r: f'"{stamp(6, True)(r)}"'))),
    ),
    "arrays": (
        values("integer[]", array(integer(32)), "{}", "{NULL}"),
        values("bigint[]", array(integer(64)), "{9223372036854775807}"),
        values("boolean[]", array(of("t", "f"))),
        values("real[]", array(f.float32), "{NaN,Infinity,-0}"),
        values("double precision[]", array(f.float64)),
        values("numeric(6,2)[]", array(f.decimal(6, 2)), "{NaN,1}"),
        values("numeric[]", array(number), "{Infinity}"),
        values("money[]", array(f.decimal(8, 2))),
        values("text[]", array(text(20)), '{NULL,"NULL","","a,b","{}"}'),
        values("varchar(9)[]", array(text(9))),
        values("character(3)[]", array(of("a", "b c"))),
        values("bytea[]", array(hexadecimal(9))),
        values("bit(3)[]", array(binary(3))),
        values("bit(1)[]", array(binary(1))),
        values("bit varying[]", array(any_binary)),
        values("date[]", array(day), "{infinity}"),
        values("time(3)[]", array(lambda r: f.clock(r, 24, 3))),
        values("timetz[]", array(lambda r: f.clock(r, 24, 3) + offset(r))),
        values("timestamp[]", array(stamp(6)), "{infinity}"),
        values("timestamp(3)[]", array(stamp(3))),
        values("timestamptz[]", array(stamp(6, True)), "{-infinity}"),
        values("interval[]", array(interval)),
        values("jsonb[]", array(f.json_text)),
        values("json[]", array(f.json_text)),
        values("uuid[]", array(unique)),
        values("inet[]", array(address)),
        values("int4range[]", array(spread(f.integer(30)))),
        values("mood[]", array(of("sad", "", "très, {bien}"))),
        values("positive[]", array(positive, deep=False), "{1}"),
        values("pair[]", array(composite)),
        values("point[]", array(point)),
        values("oid[]", array(f.integer(32, False))),
        values("name[]", array(of("a", "b c"))),
        values("xml[]", array(of("<a/>", "<b>é</b>"))),
    ),
    "composites": (
        values("pair", composite, "(,,)", '(1,"",)'),
        values("couple", composite),
        values("other.bool", lambda r: f"({r.randint(1, 9)},)"),
        values("other.date[]", array(lambda r: f"(,{r.randint(1, 9)})")),
    ),
}  # fmt: skip


# ---- what MySQL and MariaDB can hold, and how both sides print it

_HEX = "upper(encode(convert_to({}::text, 'UTF8'), 'hex'))"
_HEX_THERE = "HEX({})"


def known(type_: str, make: Make, *first: str, shown: str = "{}::text", there: str = "CAST({} AS CHAR)",
          same: Callable[[str], object] = str) -> Values:  # fmt: skip
    return Values(type_, edges(*first), literal(make), shown, there, same)


def as_text(type_: str, make: Make, *first: str) -> Values:
    return known(type_, make, *first, shown=_HEX, there=_HEX_THERE)


def as_json(type_: str, make: Make) -> Values:
    return known(type_, make, shown="array_to_json({})::text", same=parsed)


def fraction(shown: str) -> str:
    """A time without the zeros at its end, which only MySQL prints."""
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def single(shown: str) -> bytes:
    return struct.pack("<f", float(shown))


def bare(shown: str) -> str:
    """JSON without what tells a number from a text."""
    return shown.replace('"', "").replace(" ", "")


def parsed(shown: str) -> object:
    return _plain(json.loads(shown, parse_float=Decimal))


def _plain(value: object) -> object:
    """Numbers by value (1.0 is 1), True apart from 1."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return ("number", Decimal(value)) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


def between(digits: int) -> Make:
    return lambda random: f.stamp(f.moment(random, f.FIRST, f.LAST, digits), digits)


def early(random: Random) -> str:
    return f.stamp(f.moment(random, datetime(1, 1, 1, tzinfo=UTC), f.FIRST, 6), 6)


_STAMP = "to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')"
_STAMP_THERE = "CAST(CAST({} AS DATETIME(6)) AS CHAR)"

IN_MYSQL: Family = {
    "integers": (
        known("smallint", integer(16), "-32768", "32767"),
        known("integer", integer(32), "-2147483648"),
        known("bigint", integer(64), "-9223372036854775808", "9223372036854775807"),
        known("oid", f.integer(32, False), "4294967295"),
        known("boolean", of("t", "f"), shown="{}::int::text"),
        known("positive", positive),
    ),
    "decimals": (
        known("numeric(10,2)", f.decimal(10, 2), "-99999999.99"),
        known("numeric(38,10)", f.decimal(38, 10)),
        known("numeric(65,30)", f.decimal(65, 30)),
        known("numeric(80,40)", f.decimal(80, 40)),
        known("numeric", f.decimal(60, 30), "99999999999999999999999999999999999", "1e-30",
              shown="{}::numeric(65,30)::text"),
        known("numeric(6,-2)", f.decimal(8, 0), shown="{}::numeric(65,30)::text"),
        known("money", f.decimal(16, 2), "-92233720368547758.08", shown="{}::numeric::text"),
    ),
    "floats": (
        known("real", f.float32, "0.1", there="CAST({} + 0e0 AS CHAR)", same=single),
        known("double precision", f.float64, "0.1", "1e22", same=float),
    ),
    "texts": (
        as_text("text", text(300), "", "\\N", LARGE),
        as_text("varchar(30)", text(30), "x "),
        known("character(12)", text(12), "", shown="upper(encode(bpcharsend({}), 'hex'))", there=_HEX_THERE),
        as_text("citext", text(40)),
        as_text("mood", of("sad", 'it\'s "ok"', "")),
        as_text("name", of("a", "é" * 31)),
    ),
    "bytes": (
        known("bytea", hexadecimal(300), "\\x", shown="upper(encode({}, 'hex'))", there=_HEX_THERE),
        known("bit(1)", binary(1), there="CAST({} + 0 AS CHAR)"),
        known("bit(12)", binary(12), there="LPAD(BIN({}), 12, '0')"),
        known("bit(64)", binary(64), there="LPAD(BIN({}), 64, '0')"),
        known("bit(70)", binary(70)),
        known("bit varying", any_binary, ""),
        known("bit varying(50)", any_binary, "0101", "101", ""),
    ),
    "dates": (
        known("date", lambda r: between(0)(r)[:10], "1000-01-01", "9999-12-31", "0001-01-01"),
        known("time", lambda r: f.clock(r, 24, 6), "24:00:00", same=fraction),
        known("time(3)", lambda r: f.clock(r, 24, 3), same=fraction),
        known("timetz", lambda r: f.clock(r, 24, 6) + offset(r), "24:00:00-15:59"),
        known("timestamp", between(6), "9999-12-31 23:59:59.999999", shown=_STAMP, there=_STAMP_THERE),
        known("timestamp", early, "0001-01-01 00:00:00", shown=_STAMP, there=_STAMP_THERE),
        known("timestamp(3)", between(3), shown=_STAMP, there=_STAMP_THERE),
        known("timestamp(0)", between(0), shown=_STAMP, there=_STAMP_THERE),
        known("timestamptz", lambda r: between(6)(r) + "+00", shown=_STAMP, there=_STAMP_THERE),
        known("timestamptz(1)", lambda r: between(1)(r) + "+00", shown=_STAMP, there=_STAMP_THERE),
        known("interval", interval, "infinity", "0"),
    ),
    "others": (
        known("json", f.json_text, same=parsed),
        known("jsonb", f.json_text, same=parsed),
        as_text("xml", of("<a/>", "<b>é</b>")),
        known("uuid", unique),
        known("inet", address, "10.0.0.1/8", shown="CASE WHEN {} IS NOT NULL THEN format('%s', {}) END"),
        known("int4range", spread(f.integer(30))),
        known("point", point),
        as_text("pair", composite),
        as_text("hstore", pairs),
        as_json("integer[]", array(integer(32), deep=False)),
        as_json("boolean[]", array(of("t", "f"), deep=False)),
        as_json("text[]", array(text(20), deep=False)),
        as_json("varchar(30)[]", array(f.integer(90), deep=False)),
        Values("text[]", edges("{{1,02},{t,1234567890123456789012}}"), literal(of("{}")), "array_to_json({})::text",
               "CAST({} AS CHAR)", parsed),
        as_json("boolean[]", of("{{t,f},{f,NULL}}")),
        known("numeric[]", of("{12345678901234567890.5,-1}", "{{12345678901234567890.5}}"),
              shown="array_to_json({})::text", same=bare),
        as_json("double precision[]", of("{{1e-7,2.5},{1e22,0.1}}")),
        as_json("numeric[]", array(f.decimal(12, 4), deep=False)),
        as_json("uuid[]", array(unique, deep=False)),
        as_json("mood[]", array(of("sad", ""), deep=False)),
    ),
}  # fmt: skip
