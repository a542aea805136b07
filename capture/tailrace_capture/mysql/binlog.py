"""Binary log events but for rows: bytes of one event to a typed value.

Pure: no socket, no catalogue. Whatever is not known here raises: an event type, a status variable, a flag, a length
that does not fit. `body` is always the event without its 19-byte header and without its checksum.
Formats: MySQL source documentation, `mysql::binlog::event`; MariaDB documentation, "Replication Protocol".
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NoReturn

from tailrace_schemas.errors import LOAD_AGAIN, StopError

HEADER = 19
CHECKSUM = 4

QUERY, STOP, ROTATE, INTVAR, RAND, USER_VAR, FORMAT_DESCRIPTION, XID = 2, 3, 4, 5, 13, 14, 15, 16
BEGIN_LOAD_QUERY, EXECUTE_LOAD_QUERY, APPEND_BLOCK, DELETE_FILE = 17, 18, 9, 11
TABLE_MAP = 19
WRITE_ROWS_V1, UPDATE_ROWS_V1, DELETE_ROWS_V1 = 23, 24, 25
INCIDENT, HEARTBEAT, IGNORABLE, ROWS_QUERY = 26, 27, 28, 29
WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS = 30, 31, 32
GTID, ANONYMOUS_GTID, PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE = 33, 34, 35, 36, 37
XA_PREPARE, PARTIAL_UPDATE_ROWS, TRANSACTION_PAYLOAD, HEARTBEAT_V2, GTID_TAGGED = 38, 39, 40, 41, 42
ANNOTATE_ROWS, BINLOG_CHECKPOINT, MARIADB_GTID, MARIADB_GTID_LIST, START_ENCRYPTION = 160, 161, 162, 163, 164
QUERY_COMPRESSED = 165
ROWS_COMPRESSED_FIRST, ROWS_COMPRESSED_LAST = 166, 171

# Events that change data by a statement's text or prepare one that does.
STATEMENT_EVENTS = {
    INTVAR: "INTVAR",
    RAND: "RAND",
    USER_VAR: "USER_VAR",
    BEGIN_LOAD_QUERY: "BEGIN_LOAD_QUERY",
    EXECUTE_LOAD_QUERY: "EXECUTE_LOAD_QUERY",
    APPEND_BLOCK: "APPEND_BLOCK",
    DELETE_FILE: "DELETE_FILE",
}
# Events that carry nothing for us: comments on rows, group replication's own, the log's own housekeeping.
SILENT_EVENTS = frozenset(
    {STOP, IGNORABLE, ROWS_QUERY, PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE, ANNOTATE_ROWS, BINLOG_CHECKPOINT}
)


def corrupt(message: str, detail: str = "") -> StopError:
    """The error for bytes that are not what the format says."""
    hint = "check the binary log with mysqlbinlog --verify-binlog-checksum"
    return StopError(message, code="BINLOG_CORRUPT", detail=detail, hint=hint)


def unknown(what: str) -> StopError:
    hint = "go on with a version of Tailrace that knows it"
    return StopError(f"the binary log holds {what}, which this version does not know", code="BINLOG_UNKNOWN", hint=hint)


@dataclass(frozen=True, slots=True)
class Header:
    """`next_pos`: where the next event starts in the file, modulo 2^32 (0 for events made up by the dump thread)."""

    timestamp: int
    type: int
    server_id: int
    size: int
    next_pos: int
    flags: int


_HEADER = struct.Struct("<IBIIIH")
FLAG_ARTIFICIAL = 0x20


def parse_header(data: bytes, at: int = 0) -> Header:
    """
    Raises:
        StopError: shorter than a header (BINLOG_CORRUPT).
    """
    if len(data) - at < HEADER:
        raise corrupt("an event is shorter than its header")
    return Header(*_HEADER.unpack_from(data, at))


def verify_checksum(event: bytes) -> None:
    """The last 4 bytes of `event` are the CRC32 of those before.

    Raises:
        StopError: they are not (code CHECKSUM).
    """
    if zlib.crc32(memoryview(event)[:-CHECKSUM]) != int.from_bytes(event[-CHECKSUM:], "little"):
        hint = "start again; if it comes back, check the binary log with mysqlbinlog --verify-binlog-checksum"
        raise StopError("a binary log event does not match its checksum", code="CHECKSUM", hint=hint)


class Reader:
    """A place in some bytes; every read is checked against their end."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self.end - self.at

    def take(self, size: int) -> bytes:
        if size < 0 or self.left < size:
            self.torn()
        self.at += size
        return self.data[self.at - size : self.at]

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def torn(self) -> NoReturn:
        raise corrupt("an event ends in the middle of a field")

    def packed(self) -> int:
        """MySQL's length-encoded integer."""
        first = self.uint(1)
        if first < 251:
            return first
        if first == 251 or first == 255:
            raise corrupt("not a length-encoded integer")
        return self.uint({252: 2, 253: 3, 254: 8}[first])

    def variable(self) -> int:
        """Unsigned integer of mysql::serialization: as many low one-bits in the first byte as there are more bytes."""
        first = self.uint(1)
        more = 0
        while more < 8 and first >> more & 1:
            more += 1
        rest = self.uint(more)
        return first >> (more + 1) | rest << (7 - more) if more < 8 else rest

    def signed_variable(self) -> int:
        value = self.variable()
        return value >> 1 ^ -(value & 1)

    def text_to_nul(self) -> bytes:
        stop = self.data.find(b"\0", self.at, self.end)
        if stop < 0:
            self.torn()
        out = self.data[self.at : stop]
        self.at = stop + 1
        return out


@dataclass(frozen=True, slots=True)
class FormatDescription:
    server_version: str
    checksum: bool


def parse_format_description(event: bytes) -> FormatDescription:
    """`event`: whole, with header; its last byte but the checksum names the checksum algorithm.

    Raises:
        StopError: another format version or checksum algorithm.
    """
    reader = Reader(event, HEADER)
    version = reader.uint(2)
    server = reader.take(50).rstrip(b"\0").decode("ascii", "replace")
    reader.take(4)
    header_length = reader.uint(1)
    if version != 4 or header_length != HEADER:
        raise unknown(f"format version {version} with event headers of {header_length} bytes")
    # 1 byte algorithm and 4 bytes checksum stand at the end since MySQL 5.6.1 and MariaDB 5.3.
    if reader.left < 5:
        raise unknown("a format description without a checksum algorithm")
    algorithm = event[-5]
    if algorithm not in (0, 1):
        raise unknown(f"checksum algorithm {algorithm}")
    return FormatDescription(server, algorithm == 1)


@dataclass(frozen=True, slots=True)
class Rotate:
    file: str
    pos: int


def parse_rotate(body: bytes) -> Rotate:
    reader = Reader(body)
    pos = reader.uint(8)
    if not reader.left:
        raise corrupt("a rotate event names no file")
    return Rotate(reader.take(reader.left).decode(), pos)


@dataclass(frozen=True, slots=True)
class MysqlGtid:
    """`source`: `uuid` or `uuid:tag`. `commit_us`: of the original commit, 0 where an old server does not say."""

    source: str
    number: int
    commit_us: int

    def __str__(self) -> str:
        return f"{self.source}:{self.number}"


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_mysql_gtid(body: bytes) -> MysqlGtid:
    """GTID and ANONYMOUS_GTID."""
    reader = Reader(body)
    reader.take(1)
    source, number = _uuid(reader.take(16)), reader.uint(8)
    if not reader.left:
        return MysqlGtid(source, number, 0)
    if (kind := reader.uint(1)) != 2:
        raise unknown(f"a GTID event with logical timestamps of kind {kind}")
    reader.take(16)
    if reader.left < 7:
        return MysqlGtid(source, number, 0)
    immediate = reader.uint(7)
    original = immediate & ~(1 << 55)
    if immediate >> 55:
        original = reader.uint(7)
    return MysqlGtid(source, number, original)


def parse_tagged_gtid(body: bytes) -> MysqlGtid:
    """GTID_TAGGED of MySQL 8.3: fields by number (mysql::serialization), of which later versions may add more.

    Raises:
        StopError: a field that may not be ignored is not known.
    """
    reader = Reader(body)
    if (version := reader.variable()) != 1:
        raise unknown(f"GTID serialization version {version}")
    size, last_needed = reader.variable(), reader.variable()
    if size > len(body):
        reader.torn()
    uuid, number, tag, immediate, original = b"", 0, b"", 0, 0
    while reader.at < size:
        field = reader.variable()
        if field == 0:
            reader.variable()
        elif field == 1:
            uuid = bytes(reader.variable() & 0xFF for _ in range(16))
        elif field == 2:
            number = reader.signed_variable()
        elif field == 3:
            tag = reader.take(reader.variable())
        elif field in (4, 5):
            reader.signed_variable()
        elif field == 6:
            immediate = reader.variable()
        elif field == 7:
            original = reader.variable()
        elif field in (8, 9, 10, 11):
            reader.variable()
        elif field > last_needed:
            break
        else:
            raise unknown(f"a tagged GTID with field {field}")
    if len(uuid) != 16 or number <= 0:
        raise corrupt("a tagged GTID event without source or number")
    source = _uuid(uuid) + (f":{tag.decode('ascii')}" if tag else "")
    return MysqlGtid(source, number, original or immediate)


@dataclass(frozen=True, slots=True)
class MariaGtid:
    """`standalone`: one statement without a commit event. `xid`: of the XA transaction that this group prepares or
    completes."""

    domain: int
    server: int
    sequence: int
    standalone: bool
    prepares_xa: bool
    completes_xa: bool
    xid: bytes | None

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"


_MARIA_STANDALONE, _MARIA_GROUP_COMMIT, _MARIA_PREPARED_XA, _MARIA_COMPLETED_XA = 1, 2, 64, 128


def parse_maria_gtid(body: bytes, server: int) -> MariaGtid:
    """`server` is the header's server id. Flags of the second byte (multi-engine, two-phase ALTER, thread id) are of
    no use here: rows arrive the same way."""
    reader = Reader(body)
    sequence, domain, flags = reader.uint(8), reader.uint(4), reader.uint(1)
    reader.take(8 if flags & _MARIA_GROUP_COMMIT else 0)
    xid = None
    if flags & (_MARIA_PREPARED_XA | _MARIA_COMPLETED_XA):
        format_id, first, second = reader.take(4), reader.uint(1), reader.uint(1)
        xid = xid_key(int.from_bytes(format_id, "little", signed=True), *_halves(reader, first, second))
    return MariaGtid(
        domain,
        server,
        sequence,
        bool(flags & _MARIA_STANDALONE),
        bool(flags & _MARIA_PREPARED_XA),
        bool(flags & _MARIA_COMPLETED_XA),
        xid,
    )


def _halves(reader: Reader, first: int, second: int) -> tuple[bytes, bytes]:
    return reader.take(first), reader.take(second)


def xid_key(format_id: int, gtrid: bytes, bqual: bytes) -> bytes:
    """One name for an XA transaction, however an event or a statement spells it."""
    return b"%d:%s:%s" % (format_id, gtrid.hex().encode(), bqual.hex().encode())


@dataclass(frozen=True, slots=True)
class XaPrepare:
    one_phase: bool
    xid: bytes


def parse_xa_prepare(body: bytes) -> XaPrepare:
    reader = Reader(body)
    one_phase = reader.uint(1) != 0
    format_id = int.from_bytes(reader.take(4), "little", signed=True)
    first, second = reader.uint(4), reader.uint(4)
    return XaPrepare(one_phase, xid_key(format_id, *_halves(reader, first, second)))


@dataclass(frozen=True, slots=True)
class Query:
    """`text` in the client's own character set (`charset` = its collation id, 0 = not given)."""

    thread: int
    database: bytes
    text: bytes
    charset: int


# Status variables of fixed length (MySQL codes below 128, MariaDB codes from 128).
_STATUS_SIZES = {
    0: 4,  # flags2
    1: 8,  # sql_mode
    3: 4,  # auto_increment
    7: 2,  # lc_time_names
    8: 2,  # charset_database
    9: 8,  # table_map_for_update
    10: 4,  # master_data_written
    13: 3,  # microseconds
    16: 1,  # explicit_defaults_for_timestamp
    17: 8,  # ddl_logged_with_xid
    18: 2,  # default_collation_for_utf8mb4
    19: 1,  # sql_require_primary_key
    20: 1,  # default_table_encryption
    21: 1,  # of MySQL 9, in statement format
    128: 3,  # hrnow
    129: 8,  # xid of a DDL
    130: 2,  # gtid_flags3
}


def parse_query(body: bytes) -> Query:
    """QUERY, with every status variable accounted for.

    Raises:
        StopError: a status variable is not known (BINLOG_UNKNOWN), for what stands behind it cannot be read.
    """
    reader = Reader(body)
    thread = reader.uint(4)
    reader.take(4)
    database_length = reader.uint(1)
    reader.take(2)
    status = Reader(reader.take(reader.uint(2)))
    charset = _client_charset(status)
    database = reader.take(database_length)
    reader.take(1)
    return Query(thread, database, reader.take(reader.left), charset)


def _client_charset(status: Reader) -> int:
    charset = 0
    while status.left:
        code = status.uint(1)
        if code in _STATUS_SIZES:
            status.take(_STATUS_SIZES[code])
        elif code == 4:
            charset = status.uint(2)
            status.take(4)
        elif code == 2:
            status.take(status.uint(1) + 1)
        elif code in (5, 6):
            status.take(status.uint(1))
        elif code == 11:
            status.take(status.uint(1))
            status.take(status.uint(1))
        elif code == 12:
            count = status.uint(1)
            for _ in range(0 if count == 254 else count):  # 254: more than the server cares to list
                status.text_to_nul()
        elif code == 131:  # character_set_collations of MariaDB 11.5
            status.take(4 * status.uint(1))
        else:
            raise unknown(f"a query with status variable {code}")
    return charset


_MAX_UNCOMPRESSED = 1 << 30


def uncompress_maria(data: bytes) -> bytes:
    """MariaDB's log_bin_compress: a byte (0x80 | algorithm << 4 | bytes of the length), the length big-endian, zlib.

    Raises:
        StopError: another algorithm, or bytes that do not unpack to the length given.
    """
    if not data or not data[0] & 0x80:
        raise corrupt("a compressed event without its header")
    if algorithm := data[0] >> 4 & 7:
        raise unknown(f"compression algorithm {algorithm}")
    size_bytes = data[0] & 7
    size = int.from_bytes(data[1 : 1 + size_bytes], "big")
    if size > _MAX_UNCOMPRESSED:
        raise corrupt("a compressed event claims more than 1 GiB")
    unpacker = zlib.decompressobj()
    try:
        out = unpacker.decompress(data[1 + size_bytes :], size + 1)
    except zlib.error as error:
        raise corrupt("a compressed event does not unpack") from error
    if len(out) != size or not unpacker.eof:
        raise corrupt("a compressed event unpacks to another length than it says")
    return out


def parse_query_compressed(body: bytes) -> Query:
    """QUERY_COMPRESSED of MariaDB: as QUERY, the text compressed."""
    query = parse_query(body)
    return Query(query.thread, query.database, uncompress_maria(query.text), query.charset)


def plain_rows_event(event: bytes) -> bytes:
    """A MariaDB compressed rows event (166-171), without checksum, as the plain event of the same rows.

    Its body is that of the plain one up to the rows, which are compressed as a whole.
    """
    kind = event[4]
    plain = kind - ROWS_COMPRESSED_FIRST + WRITE_ROWS_V1 if kind < 169 else kind - 169 + WRITE_ROWS
    reader = Reader(event, HEADER)
    reader.take(8)
    if plain >= WRITE_ROWS:
        reader.take(max(0, reader.uint(2) - 2))
    bitmap = (reader.packed() + 7) // 8
    reader.take(2 * bitmap if plain in (UPDATE_ROWS_V1, UPDATE_ROWS) else bitmap)
    rows = uncompress_maria(event[reader.at :])
    size = reader.at + len(rows)
    return event[:4] + bytes([plain]) + event[5:9] + size.to_bytes(4, "little") + event[13 : reader.at] + rows


def payload_events(body: bytes) -> bytes:
    """TRANSACTION_PAYLOAD: the events inside, one after the other, without checksums.

    Raises:
        StopError: an unknown field or compression, or a payload that does not unpack to the size it states.
    """
    reader = Reader(body)
    compression, size, payload = 255, -1, -1
    while (field := reader.packed()) != 0:
        value = Reader(reader.take(reader.packed()))
        if field == 1:
            payload = value.packed()
        elif field == 2:
            compression = value.packed()
        elif field == 3:
            size = value.packed()
        else:
            raise unknown(f"a transaction payload with field {field}")
    if payload < 0:
        raise corrupt("a transaction payload without its size")
    data = reader.take(payload)
    if compression == 255:
        return data
    if compression != 0:
        raise unknown(f"a transaction payload of compression {compression}")
    return _unzstd(data, size)


def _unzstd(data: bytes, size: int) -> bytes:
    import zstandard

    if not 0 <= size <= 1 << 32:
        raise corrupt("a transaction payload with an impossible size")
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
            out = stream.read(size + 1)
    except zstandard.ZstdError as error:
        raise corrupt("a transaction payload does not unpack") from error
    if len(out) != size:
        raise corrupt("a transaction payload unpacks to another size than it says")
    return out


def parse_heartbeat_v2(body: bytes) -> Rotate:
    """File and position of a HEARTBEAT_V2 (positions past 4 GiB)."""
    reader, file, pos = Reader(body), "", 0
    while (field := reader.packed()) != 0:
        value = Reader(reader.take(reader.packed()))
        if field == 1:
            file = value.take(value.left).decode()
        elif field == 2:
            pos = value.packed()
        else:
            raise unknown(f"a heartbeat with field {field}")
    return Rotate(file, pos)


def parse_incident(body: bytes) -> StopError:
    """INCIDENT means that the log lacks events: there is nothing to go on with."""
    reader = Reader(body)
    number = reader.uint(2)
    text = reader.take(reader.uint(1)).decode("utf-8", "replace") if reader.left else ""
    return StopError(
        f"the source reports that its binary log has lost events (incident {number})",
        code="INCIDENT",
        detail=text,
        hint=LOAD_AGAIN,
    )


def parse_gtid_list(body: bytes) -> list[tuple[int, int, int]]:
    """MARIADB_GTID_LIST: (domain, server, sequence) of the last transaction of each domain before this place."""
    reader = Reader(body)
    count = reader.uint(4) & 0x0FFFFFFF
    return [(reader.uint(4), reader.uint(4), reader.uint(8)) for _ in range(count)]
