"""XA transactions that were prepared before the stream began: their rows are looked for in the older log files.

Files are read from the newest to the oldest, each once, until the prepare is found; that is seldom and may take long.
"""

from __future__ import annotations

from collections.abc import Callable

from tailrace_capture.mysql import binlog as bl
from tailrace_capture.mysql.held import Held, Piece
from tailrace_capture.mysql.protocol import DumpClient, events
from tailrace_schemas.position import FilePlace

ROW_EVENTS = frozenset(
    {bl.TABLE_MAP, bl.WRITE_ROWS_V1, bl.UPDATE_ROWS_V1, bl.DELETE_ROWS_V1, bl.WRITE_ROWS, bl.UPDATE_ROWS}
    | {bl.DELETE_ROWS, bl.PARTIAL_UPDATE_ROWS}
)
_SILENCE_SECONDS = 60.0


def find_prepared(dump: Callable[[], DumpClient], files: list[str], xid: bytes) -> Held | None:
    """The rows of the last prepare of `xid` in `files` (oldest first); None when it is in none of them."""
    for file in reversed(files):
        client = dump()
        try:
            client.from_place(FilePlace(file, 4))
            found = _in_file(client, xid)
        finally:
            client.close()
        if found is not None:
            return found
    return None


def _in_file(client: DumpClient, xid: bytes) -> Held | None:
    checksum = 4 if client.checksum else 0
    held, found = Held(), None
    described = False
    for event in events(client, _SILENCE_SECONDS):
        header = bl.parse_header(event)
        if header.type == bl.FORMAT_DESCRIPTION:
            if described:
                return found  # the next file begins
            described = True
            checksum = 4 if bl.parse_format_description(event).checksum else 0
        body = event[bl.HEADER : len(event) - checksum]
        if header.type in (bl.GTID, bl.ANONYMOUS_GTID, bl.GTID_TAGGED, bl.MARIADB_GTID):
            held = Held()
        elif header.type == bl.XA_PREPARE and bl.parse_xa_prepare(body).xid == xid:
            found = held
        else:
            for piece in row_pieces(event, header, body, checksum):
                held.add(piece)
    return found


def row_pieces(event: bytes, header: bl.Header, body: bytes, checksum: int) -> list[Piece]:
    """The row events in one event: itself, or what it holds compressed."""
    if header.type in ROW_EVENTS:
        return [Piece(event, 0, len(event), 0, checksum, 0)]
    if bl.ROWS_COMPRESSED_FIRST <= header.type <= bl.ROWS_COMPRESSED_LAST:
        plain = bl.plain_rows_event(event[: bl.HEADER + len(body)])
        return [Piece(plain, 0, len(plain), 0, 0, 0)]
    if header.type != bl.TRANSACTION_PAYLOAD:
        return []
    data, at, out = bl.payload_events(body), 0, []
    while at < len(data):
        size = bl.parse_header(data, at).size
        if size < bl.HEADER or at + size > len(data):
            raise bl.corrupt("a transaction payload with an event that ends outside")
        if data[at + 4] in ROW_EVENTS:
            out.append(Piece(data, at, at + size, 0, 0, 0))
        at += size
    return out
