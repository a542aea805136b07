"""The dump client: a replica's connection over pymysql's authenticated socket, giving raw bytes of packets.

One connection, one dump; when it breaks, the caller starts again from its own position. Bytes are handed on as they
come from the socket; `Packets` finds the events in them. Times are in seconds.
Commands: MySQL documentation, "COM_BINLOG_DUMP", "COM_BINLOG_DUMP_GTID", "COM_REGISTER_REPLICA"; MariaDB
documentation, "Replica registration".
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from pymysql.connections import Connection

from tailrace_capture.mysql.binlog import corrupt
from tailrace_capture.mysql.connection import classified, inner, is_mariadb, run, variable
from tailrace_schemas.errors import PositionLostError, SourceUnavailableError, StopError
from tailrace_schemas.gtid import GtidSet, MariaGtids
from tailrace_schemas.position import FilePlace

COM_BINLOG_DUMP, COM_REGISTER_REPLICA, COM_BINLOG_DUMP_GTID = 0x12, 0x15, 0x1E
THROUGH_GTID = 4
NON_BLOCK = 1  # the server ends the dump at the end of the log instead of waiting
RECEIVE_BYTES = 1 << 18
HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0


class DumpClient:
    """A started dump by a session that `connect` makes. `mariadb`: which dialect the server speaks. Use one of the
    `from_…` methods, once."""

    def __init__(self, connect: Callable[[], Connection[Any]], server_id: int, *, until_end: bool = False) -> None:
        self._connection = connect()
        self.mariadb = is_mariadb(self._connection)
        self._server_id = server_id
        self._flags = NON_BLOCK if until_end else 0
        self._poll = select.poll()
        self.checksum = False
        with classified("prepare the dump connection"):
            self._prepare()

    def _prepare(self) -> None:
        checksum = variable(self._connection, "binlog_checksum") or "NONE"
        self.checksum = checksum == "CRC32"
        period = int(HEARTBEAT_SECONDS * 1e9)
        for prefix in ("master", "source"):
            run(
                self._connection, f"SET @{prefix}_binlog_checksum = '{checksum}', @{prefix}_heartbeat_period = {period}"
            )
        if self.mariadb:
            run(self._connection, "SET @mariadb_slave_capability = 4")
        else:
            own = str(uuid.uuid5(uuid.NAMESPACE_OID, f"tailrace:{self._server_id}"))
            run(self._connection, f"SET @slave_uuid = '{own}', @replica_uuid = '{own}'")
        self._register()

    def _register(self) -> None:
        host = b"tailrace"
        body = struct.pack("<I", self._server_id) + bytes([len(host)]) + host + struct.pack("<BBHII", 0, 0, 0, 0, 0)
        self._command(COM_REGISTER_REPLICA, body)
        inner(self._connection)._read_packet()

    def _command(self, command: int, body: bytes) -> None:
        inner(self._connection)._execute_command(command, body)

    def from_place(self, place: FilePlace) -> None:
        """A place past 4 GiB cannot be asked for in every mode, so the dump then begins with the file, and the caller
        drops what it knows."""
        with classified("start the dump"):
            self._dump_file(place.file, place.pos if place.pos < 1 << 32 else 4)
        self._begin()

    def from_gtids(self, gtids: GtidSet) -> None:
        """Everything that is not in `gtids`."""
        with classified("start the dump"):
            data = encode_gtids(gtids)
            head = struct.pack("<HIIQ", self._flags | THROUGH_GTID, self._server_id, 0, 4)
            self._command(COM_BINLOG_DUMP_GTID, head + struct.pack("<I", len(data)) + data)
        self._begin()

    def from_maria_gtids(self, gtids: MariaGtids) -> None:
        with classified("start the dump"):
            run(self._connection, f"SET @slave_connect_state = '{gtids}'")
            run(self._connection, "SET @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0")
            self._dump_file("", 4)
        self._begin()

    def _dump_file(self, file: str, pos: int) -> None:
        self._command(COM_BINLOG_DUMP, struct.pack("<IHI", pos, self._flags, self._server_id) + file.encode())

    def _begin(self) -> None:
        # Everything before the dump was answered, so pymysql's buffered file holds nothing of it.
        sock = self.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.settimeout(SILENCE_SECONDS)
        self._poll.register(sock, select.POLLIN)

    @property
    def socket(self) -> socket.socket:
        sock: socket.socket | None = inner(self._connection)._sock
        if sock is None:
            raise SourceUnavailableError("the dump connection is closed")
        return sock

    def receive(self, seconds: float) -> bytes:
        """What has arrived; empty when nothing does within `seconds`.

        Raises:
            SourceUnavailableError: the connection has ended.
        """
        sock = self.socket
        pending = sock.pending() if isinstance(sock, ssl.SSLSocket) else 0
        try:
            if not pending and not self._poll.poll(seconds * 1000):
                return b""
            data = sock.recv(RECEIVE_BYTES)
        except (OSError, ssl.SSLError) as error:
            raise SourceUnavailableError("the dump connection broke", detail=str(error)) from error
        if not data:
            raise SourceUnavailableError("the source closed the dump connection")
        return data

    def close(self) -> None:
        inner(self._connection)._force_close()


def encode_gtids(gtids: GtidSet) -> bytes:
    """The set as COM_BINLOG_DUMP_GTID carries it; intervals are half open. With tags, the form of MySQL 8.3: the top
    byte of the first number says so (Gtid_set::encode, tsid format)."""
    tagged = any(":" in source for source in gtids.intervals)
    return _encode_tagged(gtids) if tagged else _encode_plain(gtids)


def _spans(spans: tuple[tuple[int, int], ...]) -> bytes:
    return struct.pack("<Q", len(spans)) + b"".join(struct.pack("<QQ", first, last + 1) for first, last in spans)


def _encode_plain(gtids: GtidSet) -> bytes:
    out = struct.pack("<Q", len(gtids.intervals))
    for source, spans in sorted(gtids.intervals.items()):
        out += uuid.UUID(source).bytes + _spans(spans)
    return out


def _encode_tagged(gtids: GtidSet) -> bytes:
    count = len(gtids.intervals)
    out = struct.pack("<Q", 1 << 56 | count << 8 | 1)
    for source, spans in sorted(gtids.intervals.items()):
        plain, _, tag = source.partition(":")
        # The tag's length is a variable-length integer of mysql::serialization; tags have at most 32 characters.
        out += uuid.UUID(plain).bytes + bytes([len(tag) << 1]) + tag.encode() + _spans(spans)
    return out


def error_of(packet: bytes) -> Exception:
    """The error packet that ends a dump, as one of ours."""
    number = int.from_bytes(packet[1:3], "little")
    text = packet[9:] if packet[3:4] == b"#" else packet[3:]
    detail = f"{number}: {text.decode('utf-8', 'replace')}"
    lost = number == 1236 and any(
        word in detail.lower()
        for word in (
            "purged",
            "could not find",
            "not find first log",
            "not in the master",
            "impossible position",
            "missing",
        )
    )
    if lost:
        return PositionLostError(
            "the source no longer has the binary log to go on from",
            detail=detail,
            hint="tailrace drop, then run again for a new load; keep binary logs longer (binlog_expire_logs_seconds)",
        )
    if number in (1227, 1142, 1045):
        return StopError(
            "the user may not read the binary log",
            code="GRANT",
            detail=detail,
            hint="GRANT REPLICATION SLAVE ON *.* TO …",
        )
    if number in (1236, 1593):
        hint = "correct at the source what the detail names, then start again"
        return StopError("the source refuses the dump", code="DUMP_REFUSED", detail=detail, hint=hint)
    return SourceUnavailableError("the source ended the dump", detail=detail)


class Packets:
    """Cuts received bytes into packets. `whole`, `at`, `end`: the bytes at hand; a packet that continues past 16 MB is
    joined by `big`. Nothing is copied but what a chunk's end cuts."""

    def __init__(self) -> None:
        self.data = b""
        self.at = 0
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = 0

    @property
    def end(self) -> int:
        return len(self.data)

    def add(self, chunk: bytes) -> bool:
        """Take a chunk; False when more is needed before anything can be cut."""
        self._pieces.append(chunk)
        self._held += len(chunk)
        if self._held < self._needed:
            return False
        self.data, self.at = b"".join(self._pieces), 0
        return True

    def rest(self, needed: int) -> None:
        """Keep what is left for the next chunk; `needed`: how many bytes the packet at its beginning has at least."""
        left = self.data[self.at :] if self.at else self.data
        self._pieces, self._held, self._needed = [left] if left else [], len(left), needed
        self.data, self.at = b"", 0

    def cut(self) -> tuple[bytes, int, int] | int:
        """The packet at `at` as (data, start, end) without header, or how many bytes it needs at least. A packet longer
        than 16 MB comes in pieces, the last one shorter than 16 MB."""
        data, at = self.data, self.at
        pieces: list[bytes] = []
        while True:
            if len(data) - at < 4:
                return at - self.at + 4
            size = int.from_bytes(data[at : at + 3], "little")
            if len(data) - at - 4 < size:
                return at - self.at + 4 + size
            if size < 0xFFFFFF and not pieces:
                self.at = at + 4 + size
                return data, at + 4, at + 4 + size
            pieces.append(data[at + 4 : at + 4 + size])
            at += 4 + size
            if size < 0xFFFFFF:
                self.at = at
                joined = b"".join(pieces)
                return joined, 0, len(joined)


def events(client: DumpClient, seconds: float) -> Iterator[bytes]:
    """Whole events with header and checksum, one by one, until the dump ends; for side dumps and tests.

    Raises:
        what `error_of` gives; SourceUnavailableError: silence for `seconds`.
    """
    packets = Packets()
    while True:
        chunk = client.receive(seconds)
        if not chunk:
            raise SourceUnavailableError(f"the source sent nothing for {seconds:.0f} s")
        if not packets.add(chunk):
            continue
        while not isinstance(found := packets.cut(), int):
            data, start, end = found
            if end <= start:
                raise corrupt("an empty packet in a dump")
            if data[start] == 0xFE and end - start < 9:
                return
            if data[start] == 0xFF:
                raise error_of(data[start:end])
            yield data[start + 1 : end]
        packets.rest(found)
