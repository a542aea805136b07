"""Random rows of every type of MySQL 9 and MariaDB 11, a family of types to a table.

Each column also says how Postgres must print what it got (`there`) and what the source prints for the same (`shown`).
"""

from __future__ import annotations

import ipaddress
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import fix_rows as f
from fix_rows import Family, Make, Values


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def literal(make: Callable[[Random], str]) -> Make:
    return lambda random: quoted(make(random))


def number(type_: str, make: Make, *edges: str, same: Callable[[str], object] = str) -> Values:
    return Values(type_, edges, make, "CAST({} AS CHAR)", "{}::text", same)


_HEX = "HEX(CONVERT({} USING utf8mb4))"
_HEX_THERE = "upper(encode(convert_to({}::text, 'UTF8'), 'hex'))"


def text(type_: str, longest: int, alphabet: str = f._ALPHABET, *edges: str) -> Values:
    make = literal(lambda random: f.characters(random, longest, alphabet).rstrip(" "))
    return Values(type_, (*(quoted(edge) for edge in edges), "''"), make, _HEX, _HEX_THERE)


def octets(type_: str, longest: int, *edges: str) -> Values:
    return Values(
        type_, ("''", *edges), lambda r: _hex(f.octets(r, longest)), "HEX({})", "upper(encode({}, 'hex'))"
    )  # fmt: skip


def _hex(data: bytes) -> str:
    return f"x'{data.hex()}'" if data else "''"


def bits(type_: str, size: int) -> Values:
    make: Make = lambda random: f"b'{random.getrandbits(size):b}'"  # noqa: E731
    return Values(type_, (f"b'{'1' * size}'", "b'0'"), make, f"LPAD(BIN({{}}), {size}, '0')", "{}::text")


def unsigned(bits: int) -> Make:
    return f.integer(bits, False)


def single(shown: str) -> bytes:
    return struct.pack("<f", float(shown))


def fraction(shown: str) -> str:
    """A time without the zeros at its end, which only MySQL prints."""
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def duration(digits: int) -> Make:
    return lambda random: quoted(random.choice(("", "-")) + f.clock(random, random.choice((1, 24, 838)), digits))


def moments(type_: str, digits: int, *edges: str) -> Values:
    def make(random: Random) -> str:
        return quoted(f.stamp(f.moment(random, f.FIRST, f.LAST, digits), digits))

    stamp = "CAST(CAST({} AS DATETIME(6)) AS CHAR)"
    shown = f"IF({_ZEROS}, NULL, {stamp})"
    return Values(type_, edges, make, shown, "to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')")


# What `zero_dates: null` makes NULL at Postgres.
_ZEROS = "DAYOFMONTH({}) = 0 OR MONTH({}) = 0"
_EPOCH, _END = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2038, 1, 19, tzinfo=UTC)


def instants(digits: int) -> Values:
    def make(random: Random) -> str:
        return quoted(f.stamp(f.moment(random, _EPOCH, _END, digits), digits))

    edges = ("'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'")
    shown = f"IF({_ZEROS}, NULL, CAST(CAST({{}} AS DATETIME(6)) AS CHAR))"
    there = "to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')"
    return Values(f"timestamp({digits}) NULL", edges, make, shown, there)


def day(random: Random) -> str:
    return quoted(
        f"{(datetime(1000, 1, 1, tzinfo=UTC) + timedelta(days=random.randrange(3287000))):%Y-%m-%d}".zfill(10)
    )


_ZERO = ("'0000-00-00'", "'2024-00-10'", "'2024-05-00'")
# Postgres gets EWKB: where there is an SRID, the type word has the flag 0x20000000 and the SRID stands behind it.
_RAW = "CAST({} AS BINARY)"
_EWKB = (
    f"IF(SUBSTRING({_RAW}, 1, 4) = x'00000000', HEX(SUBSTRING({_RAW}, 5)), CONCAT('01', HEX(SUBSTRING({_RAW}, 6, 3)),"
    f" '20', HEX(SUBSTRING({_RAW}, 1, 4)), HEX(SUBSTRING({_RAW}, 10))))"
)


def geometry(type_: str, shape: Callable[[Random], str], *more: str) -> Values:
    def make(random: Random) -> str:
        return f"ST_GeomFromText('{shape(random)}', {random.choice((0, 0, 3857))})"

    return Values(type_, more, make, _EWKB, "upper(encode({}, 'hex'))")


def pair(random: Random) -> str:
    return f"{random.randint(-1000, 1000) / 8} {random.randint(-99, 99)}"


def line(random: Random) -> str:
    return ",".join(f"{n}.5 {random.randint(-99, 99)}" for n in range(random.randint(2, 5)))


def square(random: Random) -> str:
    n = random.randint(1, 99)
    return f"((0 0,{n} 0,{n} {n},0 {n},0 0))"


def vectors(function: str) -> Values:
    def make(random: Random) -> str:
        return f"{function}('[{','.join(f.float32(random) for _ in range(3))}]')"

    def floats(shown: str) -> object:
        if shown.startswith("{"):
            return [struct.pack("<f", float(item)) for item in shown[1:-1].split(",")]
        raw = bytes.fromhex(shown)
        return [raw[i : i + 4] for i in range(0, len(raw), 4)]

    return Values("vector(3)", (f"{function}('[0,0.1,-1e-30]')",), make, "HEX({})", "{}::text", floats)


def label(*labels: str) -> Make:
    return lambda random: quoted(random.choice(labels))


def some(*labels: str) -> Make:
    return lambda random: quoted(",".join(word for word in labels if random.random() < 0.4))


MANY = [f"l{n}" for n in range(300)]

FAMILIES: Family = {
    "integers": (
        number("tinyint", f.integer(8), "-128", "127"),
        number("tinyint(1)", f.integer(8), "-1", "1", "0"),
        number("tinyint unsigned", unsigned(8), "255"),
        number("smallint", f.integer(16), "-32768"),
        number("smallint unsigned", unsigned(16), "65535"),
        number("mediumint", f.integer(24), "-8388608", "8388607"),
        number("mediumint unsigned", unsigned(24), "16777215"),
        number("int", f.integer(32), "-2147483648"),
        number("int unsigned", unsigned(32), "4294967295", "2147483648"),
        Values("int(10) unsigned zerofill", ("4294967295",), unsigned(32), "CAST({} + 0 AS CHAR)", "{}::text"),
        number("bigint", f.integer(64), "-9223372036854775808", "9223372036854775807"),
        number("bigint unsigned", unsigned(64), "18446744073709551615", "9223372036854775808"),
    ),
    "decimals": (
        number("decimal(10,2)", f.decimal(10, 2), "-99999999.99", "0"),
        number("decimal(18,9)", f.decimal(18, 9), "999999999.999999999"),
        number("decimal(19,0)", f.decimal(19, 0), "-9999999999999999999"),
        number("decimal(65,30)", f.decimal(65, 30), "-12345678901234567890123456789012345.5", "1e-30"),
        number("decimal(65,0)", f.decimal(65, 0)),
        number("decimal(5,5)", f.decimal(5, 5), "-0.99999"),
        number("decimal(30,30)", f.decimal(30, 30)),
        number("decimal(9,0) unsigned", unsigned(29)),
        number("numeric(27,9)", f.decimal(27, 9)),
    ),
    "floats": (
        Values("float", ("0.1", "-3.4e38", "16777217", "-0.0"), f.float32, "CAST({} + 0e0 AS CHAR)", "{}::text", single),
        Values("float(9,3)", ("0.125",), f.decimal(6, 3), "CAST({} + 0e0 AS CHAR)", "{}::text", single),
        number("double", f.float64, "0.1", "1.7976931348623157e308", "1e22", "-0.0", same=float),
        Values("double(12,4)", ("0.25",), f.decimal(12, 4), "CAST({} + 0e0 AS CHAR)", "{}::text", float),
        number("double unsigned", lambda r: f.float64(r).lstrip("-"), same=float),
    ),
    "texts": (
        text("char(9)", 9),
        text("varchar(40)", 40, f._ALPHABET, "x y "),
        text("varchar(300)", 300),
        text("tinytext", 60),
        text("text", 300, f._ALPHABET, "x" * 20000),
        text("mediumtext", 60, f._ALPHABET, "é" * 40000),
        text("longtext", 60),
        text("varchar(20) CHARACTER SET latin1", 20, "abéßÿ€ '\\\n"),
        text("varchar(20) CHARACTER SET utf8mb3", 20, "abé日ß'\\"),
        text("varchar(20) CHARACTER SET ucs2", 20, "abé日'"),
        text("varchar(20) CHARACTER SET utf16", 20, "abé日\U0001f600'"),
        text("varchar(20) CHARACTER SET utf32", 20, "abé\U0001f600'"),
        text("varchar(20) CHARACTER SET ascii", 20, "abc'\\\t"),
        text("varchar(20) CHARACTER SET cp1251", 20, "abЖя'"),
        text("varchar(20) CHARACTER SET sjis", 20, "ab日本ア'"),
        text("varchar(20) CHARACTER SET gbk", 20, "ab你好'\\"),
        text("varchar(20) CHARACTER SET big5", 20, "ab中文'"),
        text("varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", 20),
    ),
    "bytes": (
        octets("binary(4)", 4, "x'00ff'"),
        octets("binary(255)", 255),
        octets("varbinary(300)", 300, "x'00ff5c0a0927'"),
        octets("tinyblob", 60),
        octets("blob", 300, "repeat(x'00ff', 20000)"),
        octets("mediumblob", 60),
        octets("longblob", 60, "x'00ff5c0a09271a'"),
        bits("bit(1)", 1),
        bits("bit(5)", 5),
        bits("bit(64)", 64),
    ),
    "labels": (
        Values("enum('x','it''s','é','a,b')", (), label("x", "it's", "é", "a,b"), _HEX, _HEX_THERE),
        Values(f"enum({','.join(map(quoted, MANY))})", (quoted(MANY[-1]),), label(*MANY), _HEX, _HEX_THERE),
        Values("set('p','q','é')", ("''",), some("p", "q", "é"), _HEX, _HEX_THERE),
        Values(f"set({','.join(map(quoted, MANY[:64]))})", ("~0",), some(*MANY[:64]), _HEX, _HEX_THERE),
        Values("enum('ж') CHARACTER SET cp1251", (), label("ж"), _HEX, _HEX_THERE),
    ),
    "dates": (
        Values("year", ("1901", "2155", "0"), lambda r: str(r.randint(1901, 2155)), "CAST({} + 0 AS CHAR)", "{}::text"),
        Values("date", ("'1000-01-01'", "'9999-12-31'", "'0001-01-01'", *_ZERO), day,
               f"IF({_ZEROS}, NULL, CAST({{}} AS CHAR))",
               "{}::text"),
        Values("time", ("'-838:59:59'", "'838:59:59'"), duration(0), "CAST({} AS CHAR)", "{}::text"),
        Values("time(3)", ("'-838:59:59'", "'-00:00:00.001'"), duration(3), "CAST({} AS CHAR)", "{}::text", fraction),
        Values("time(6)", ("'838:59:59'", "'-00:00:00.000001'"), duration(6), "CAST({} AS CHAR)", "{}::text", fraction),
        moments("datetime", 0, *_ZERO, "'0001-01-01 00:00:00'"),
        moments("datetime(1)", 1),
        moments("datetime(3)", 3, *_ZERO),
        moments("datetime(4)", 4),
        moments("datetime(6)", 6, *_ZERO, "'9999-12-31 23:59:59.999999'"),
        instants(0),
        instants(2),
        instants(6),
    ),
    "shapes": (
        geometry("point", lambda r: f"POINT({pair(r)})"),
        geometry("geometry", lambda r: r.choice((f"POINT({pair(r)})", f"LINESTRING({line(r)})"))),
        geometry("linestring", lambda r: f"LINESTRING({line(r)})"),
        geometry("polygon", lambda r: f"POLYGON{square(r)}", "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326)"),
        geometry("multipoint", lambda r: f"MULTIPOINT({line(r)})"),
        geometry("multilinestring", lambda r: f"MULTILINESTRING(({line(r)}))"),
        geometry("multipolygon", lambda r: f"MULTIPOLYGON({square(r)})"),
        geometry("geometrycollection", lambda r: f"GEOMETRYCOLLECTION(POINT({pair(r)}),LINESTRING({line(r)}))"),
    ),
}  # fmt: skip

# MySQL's own JSON: its text is the server's, of which Postgres gets exactly that.
_DOCUMENTS = (
    "'1e20'", "'18446744073709551615'", "'-0.0'", "'{\"\\\\u0000\": \"\\\\u0000\"}'", "cast(x'00ff' as json)",
    "cast(cast('2024-01-02' as date) as json)",
    "json_array(repeat('x', 70000), 1)",
)  # fmt: skip
_JSON = Values("json", _DOCUMENTS, literal(f.json_text), "HEX(CAST({} AS CHAR))", _HEX_THERE)
MYSQL: Family = FAMILIES | {"documents": (_JSON, vectors("STRING_TO_VECTOR"))}


def address(bits: int) -> Make:
    def make(random: Random) -> str:
        if bits == 32:
            return quoted(str(ipaddress.IPv4Address(random.getrandbits(32))))
        groups = b"".join(random.choice((b"\0\0", b"\0\1", b"\xff\xff", random.randbytes(2))) for _ in range(8))
        return quoted(str(ipaddress.IPv6Address(groups)))

    return make


def uuids(random: Random) -> str:
    return quoted(str(uuid.UUID(bytes=random.randbytes(16))))


MARIADB: Family = FAMILIES | {
    "documents": (
        Values("json", ("'{\"a\" : 1}'",), literal(f.json_text), "HEX({})", _HEX_THERE),
        vectors("VEC_FromText"),
        Values("uuid", ("'00000000-0000-0000-0000-000000000000'",), uuids, "CAST({} AS CHAR)", "{}::text"),
        Values("inet4", ("'0.0.0.0'",), address(32), "CAST({} AS CHAR)", "host({})", ipaddress.ip_address),
        Values("inet6", ("'::'", "'::ffff:1.2.3.4'"), address(128), "CAST({} AS CHAR)", "host({})", ipaddress.ip_address),
    )
}  # fmt: skip
