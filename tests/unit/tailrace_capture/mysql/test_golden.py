"""Recorded binary log events decode to the recorded values, compiled and as plain Python; damaged ones to an error."""

import json
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from fix_mysql import Decoder, is_row_event, plain_rows

from tailrace_capture.mysql import binlog, ddl, jsonb, rows
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.native import Charsets, Collation
from tailrace_schemas.errors import TailraceError
from tailrace_schemas.table import TableSchema

GOLDEN = Path(__file__).parents[3] / "golden" / "mysql"
SERVERS = ("mysql80", "mysql9", "mariadb1011", "mariadb118")
NAMED = {"TornRowError", "PartialImageError", "InexactKeyError"}


@pytest.fixture(params=["as imported", "plain"])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    """The row codec as it is installed, and the same source run by the interpreter."""
    if request.param == "as imported":
        return rows
    module = plain_rows()
    assert not module.is_compiled()
    return module


@pytest.fixture(params=SERVERS)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    out: dict[str, Any] = json.loads((GOLDEN / f"{request.param}.json").read_text())
    return out


def decoder(golden: dict[str, Any], codec: ModuleType = rows) -> Decoder:
    collations = {int(number): Collation(*parts) for number, parts in golden["collations"].items()}
    return Decoder(Charsets(collations), golden["mariadb"], TableSchema.from_json(golden["schema"]), coder=codec)


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, int | str | None) else str(value)


def events(golden: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(text) for text in golden["events"]]


def test_recorded_events_decode_to_the_recorded_values(golden: dict[str, Any], codec: ModuleType) -> None:
    found = decoder(golden, codec)
    found.feed(events(golden))
    got = [plain(pair) for pair in found.events(TableSchema.from_json(golden["schema"]).table)]
    assert got == golden["decoded"]
    assert {value["op"] for _, value in got if value} == {"c", "u", "d"}


def test_every_recorded_checksum_holds_and_any_changed_byte_breaks_it(golden: dict[str, Any], seed: int) -> None:
    random = Random(f"{seed} checksum")
    for event in events(golden):
        binlog.verify_checksum(event)
        at = random.randrange(len(event))
        broken = event[:at] + bytes([event[at] ^ 1 << random.randrange(8)]) + event[at + 1 :]
        with pytest.raises(TailraceError, match="CHECKSUM"):
            binlog.verify_checksum(broken)


def test_rows_already_in_the_log_are_counted_and_not_written_again(golden: dict[str, Any], codec: ModuleType) -> None:
    table = TableSchema.from_json(golden["schema"]).table
    whole, half = decoder(golden, codec), decoder(golden, codec)
    whole.feed(events(golden))
    half.feed(events(golden), skip=4)
    everything = whole.events(table)
    rest = [pair for pair in everything if pair[1] is None or pair[1]["transaction"]["total_order"] > 4]
    got = half.events(table)
    assert got == rest
    assert len(got) < len(everything)


def test_dropped_events_keep_the_numbers_of_the_others(golden: dict[str, Any], codec: ModuleType) -> None:
    table = TableSchema.from_json(golden["schema"]).table
    whole, judged = decoder(golden, codec), decoder(golden, codec)
    whole.feed(events(golden))
    judged.feeds[table].buffer.judged = True
    answers: list[bytes | None] = []

    def every_second(key: bytes | None) -> bool:
        answers.append(key)
        return len(answers) % 2 == 0

    judged.decide_with = every_second
    judged.feed(events(golden))
    everything = [(key, value) for key, value in whole.events(table) if value]
    assert [pair for pair in judged.events(table) if pair[1]] == everything[1::2]
    assert len(answers) == len(everything)


def seconds_a_row(golden: dict[str, Any], codec: ModuleType) -> float:
    """CPU time, best of a few runs over the recorded rows."""
    found = decoder(golden, codec)
    data = b"".join(bytes(5) + bare(event) for event in events(golden) if is_row_event(event[4]))
    found.coder.begin(1, 1, None, b"f", 4, 0, b"t", 0)
    best = 1.0
    for _ in range(20):
        before, start = int(found.coder.total), time.process_time()
        found.coder.run(data, 0, len(data), 5, 0)
        best = min(best, (time.process_time() - start) / (int(found.coder.total) - before))
    return best


@pytest.mark.skipif(not rows.is_compiled(), reason="an interpreted build")
def test_the_compiled_codec_is_many_times_faster(golden: dict[str, Any]) -> None:
    # Ratios only: walls depend on the machine. JSON text is made by plain Python in both.
    assert seconds_a_row(golden, plain_rows()) / seconds_a_row(golden, rows) > 3


def bare(event: bytes) -> bytes:
    """Without checksum, the size in its header as it is then."""
    size = len(event) - binlog.CHECKSUM
    return event[:9] + size.to_bytes(4, "little") + event[13:size]


def test_damaged_events_end_in_a_named_error(golden: dict[str, Any], codec: ModuleType, seed: int) -> None:
    random = Random(f"{seed} hostile")
    found = decoder(golden, codec)
    maps = [bare(event) for event in events(golden) if event[4] == binlog.TABLE_MAP]
    changes = [bare(event) for event in events(golden) if is_row_event(event[4]) and event[4] != binlog.TABLE_MAP]
    for n in range(1500):
        found.coder.run(maps[0], 0, len(maps[0]), 0, 0)
        broken = damaged(changes[n % len(changes)], random)
        try:
            found.coder.begin(1, 1, None, b"f", 4, 0, b"t", 0)
            found.coder.run(broken, 0, len(broken), 0, 0)
        except Exception as error:  # noqa: BLE001 - plain and compiled modules have classes of their own
            assert isinstance(error, TailraceError) or type(error).__name__ in NAMED, repr(error)


def damaged(event: bytes, random: Random) -> bytes:
    """Cut short, changed in a few bytes, or longer; with a header that fits, so that the rows are reached."""
    body = bytearray(event)
    match random.randrange(3):
        case 0:
            del body[random.randrange(27, len(body)) :]
        case 1:
            for _ in range(random.randrange(1, 4)):
                body[random.randrange(27, len(body))] = random.randrange(256)
        case _:
            body += random.randbytes(random.randrange(1, 40))
    body[9:13] = len(body).to_bytes(4, "little")
    return bytes(body)


def test_damaged_control_events_end_in_a_named_error(golden: dict[str, Any], seed: int) -> None:
    random = Random(f"{seed} control")
    parsers: dict[int, Callable[[bytes], object]] = {
        binlog.QUERY: binlog.parse_query,
        binlog.GTID: binlog.parse_mysql_gtid,
        binlog.TABLE_MAP: lambda body: tm.parse_table_map(body, golden["mariadb"]),
        binlog.MARIADB_GTID: lambda body: binlog.parse_maria_gtid(body, 1),
        binlog.TRANSACTION_PAYLOAD: binlog.payload_events,
        binlog.FORMAT_DESCRIPTION: lambda body: binlog.parse_format_description(bytes(19) + body),
    }
    bodies = [(event[4], bare(event)[19:]) for event in events(golden) if event[4] in parsers]
    for n in range(2000):
        kind, body = bodies[n % len(bodies)]
        broken = damaged(bytes(27) + body, random)[27:]
        with suppress(TailraceError, UnicodeDecodeError):
            parsers[kind](broken)


def test_damaged_json_ends_in_a_named_error(seed: int) -> None:
    random = Random(f"{seed} json")
    value = bytes.fromhex("000200170012000100130001000c14000514006162037879 7a".replace(" ", ""))
    for _ in range(3000):
        broken = bytearray(value + random.randbytes(8))
        for _ in range(random.randrange(1, 5)):
            broken[random.randrange(len(broken))] = random.randrange(256)
        with suppress(TailraceError):
            jsonb.to_text(bytes(broken))


def test_a_statement_is_read_without_a_grammar() -> None:
    cases = {
        "TRUNCATE TABLE `a`.`b`": ("truncate", [("a", "b")]),
        "truncate t": ("truncate", [("d", "t")]),
        "/* x */ TRUNCATE /*!40000 TABLE */ `we``ird`": ("truncate", [("d", "we`ird")]),
        "DELETE FROM `d`.`m`": ("truncate", [("d", "m")]),
        "DROP TABLE IF EXISTS `a`,b.`c` /* generated by server */": ("drop", [("d", "a"), ("b", "c")]),
        "DROP TEMPORARY TABLE x": ("other", []),
        "RENAME TABLE a TO b, x.c TO d": ("rename", [("d", "a"), ("d", "b"), ("x", "c"), ("d", "d")]),
        "ALTER TABLE a ADD COLUMN c int, RENAME TO z.b": ("rename", [("d", "a"), ("z", "b")]),
        "ALTER TABLE a RENAME COLUMN x TO y": ("alter", [("d", "a")]),
        "alter table a truncate partition p0": ("reload", [("d", "a")]),
        "CREATE OR REPLACE TABLE t(i int)": ("create", [("d", "t")]),
        "CREATE TABLE IF NOT EXISTS x.t LIKE y": ("create", [("x", "t")]),
        "GRANT ALL ON *.* TO x": ("other", []),
        "SET STATEMENT max_statement_time=5 FOR TRUNCATE t": ("truncate", [("d", "t")]),
        "CALL p()": ("unclear", []),
        "SELECT `d`.`f`()": ("unclear", []),
        "FROBNICATE t": ("unclear", []),
        "-- c\nBEGIN": ("begin", []),
        "ROLLBACK": ("rollback", []),
    }
    for text, (kind, tables) in cases.items():
        got = ddl.parse_statement(text, "d")
        assert (got.kind, [tuple(table) for table in got.tables]) == (kind, tables), text


def test_changes_in_statement_format_name_every_table_they_could_mean() -> None:
    got = ddl.parse_statement("INSERT INTO `x`.`a` SELECT * FROM b, c WHERE 'd' = b.e", "s")
    assert got.kind == "data"
    assert {("x", "a"), ("s", "b"), ("s", "c"), ("b", "e")} <= {tuple(table) for table in got.tables}


def test_xa_statements_and_events_name_the_same_transaction() -> None:
    name = binlog.xid_key(7, b"ab", b"'")
    assert ddl.parse_statement("XA COMMIT X'6162',X'27',7", "").xid == name
    body = b"\0" + (7).to_bytes(4, "little") + (2).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"ab'"
    assert binlog.parse_xa_prepare(body).xid == name


def test_an_unknown_status_variable_is_named() -> None:
    body = bytes(8) + b"\0" + bytes(2) + (2).to_bytes(2, "little") + b"\x63\0" + b"\0BEGIN"
    with pytest.raises(TailraceError, match="status variable 99"):
        binlog.parse_query(body)


def test_compressed_rows_unpack_to_the_plain_event() -> None:
    data = b"rows" * 100
    packed = bytes([0x82]) + len(data).to_bytes(2, "big") + zlib.compress(data)
    assert binlog.uncompress_maria(packed) == data
    for broken in (packed[:-3], b"\x82\0\1" + packed[3:], b"\x92" + packed[1:], b""):
        with pytest.raises(TailraceError):
            binlog.uncompress_maria(broken)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"), (0.1, "0.1"), (-0.0, "-0.0"), (1e14, "100000000000000.0"), (1e15, "1e15"), (1.25e18, "1.25e18"),
        (1e-14, "0.00000000000001"), (1e-15, "0.000000000000001"), (1e-16, "1e-16"), (-1.5e-7, "-0.00000015"),
    ],
)  # fmt: skip
def test_json_doubles_print_as_the_server_prints_them(value: float, text: str) -> None:
    assert jsonb.double_text(value) == text


@pytest.mark.parametrize(
    ("path", "steps"),
    [("$", []), ("$.a[2].b", ["a", 2, "b"]), ('$."x \\" y"[0]', ['x " y', 0])],
)
def test_json_paths_are_read(path: str, steps: list[str | int]) -> None:
    assert jsonb.parse_path(path) == steps
