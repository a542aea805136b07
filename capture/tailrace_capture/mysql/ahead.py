"""Reading the log ahead of the stream for statements that may change how rows of a table are laid out.

A description of the catalogue holds for every row event between two such statements of its table. That it stands there,
and not behind a later one, is known only from the log between the stream's place and the log's end when the catalogue
was read. Each part of the log is read ahead once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tailrace_capture.mysql import binlog as bl
from tailrace_capture.mysql import ddl
from tailrace_capture.mysql.native import UTF8, Charsets
from tailrace_capture.mysql.protocol import DumpClient, events
from tailrace_schemas.errors import SourceUnavailableError
from tailrace_schemas.position import FilePlace
from tailrace_schemas.table import TableId

_SILENCE_SECONDS = 60.0
_LAYOUT_KINDS = frozenset({"alter", "reload", "rename", "drop", "create", "unclear"})
_BORING = frozenset({b"BEGIN", b"COMMIT", b"ROLLBACK"})
_TEXT_CODECS = {
    "latin1": "cp1252",
    "binary": "utf-8",
    "gbk": "gbk",
    "big5": "big5",
    "ujis": "euc_jp",
    "sjis": "shift_jis",
}


@dataclass(frozen=True, slots=True)
class Found:
    """`place`: right behind the statement."""

    place: FilePlace
    statement: ddl.Statement
    text: str


class Ahead:
    """`dump`: a dump connection that waits at the end of the log: what the server says to be the end may be sent a
    little later."""

    def __init__(self, dump: Callable[[], DumpClient], charsets: Charsets) -> None:
        self._dump, self._charsets = dump, charsets
        self._from: FilePlace | None = None
        self._to = FilePlace("", 4)
        self._found: list[Found] = []

    def changes(self, table: TableId, start: FilePlace, end: FilePlace) -> list[Found]:
        """Statements behind `start`, up to `end` at least, that may change how rows of `table` are laid out.

        Raises:
            SourceUnavailableError: the log could not be read; StopError: it holds something unknown.
        """
        if self._from is None or not (self._from.at_or_before(start) and start.at_or_before(self._to)):
            self._from, self._to, self._found = start, start, []
        if self._to != end and self._to.at_or_before(end):
            self._found += self._read(self._to, end)
            self._to = end
        self._found = [found for found in self._found if not found.place.at_or_before(start)]
        self._from = start
        return [found for found in self._found if concerns(found.statement, table)]

    def _read(self, start: FilePlace, end: FilePlace) -> list[Found]:
        client = self._dump()
        try:
            client.from_place(start)
            return [found for found in self._statements(client, start, end) if not found.place.at_or_before(start)]
        finally:
            client.close()

    def _statements(self, client: DumpClient, start: FilePlace, end: FilePlace) -> Iterator[Found]:
        file, pos = start.file, start.pos if start.pos < 1 << 32 else 4
        checksum = bl.CHECKSUM if client.checksum else 0
        for event in events(client, _SILENCE_SECONDS):
            header = bl.parse_header(event)
            if header.type == bl.FORMAT_DESCRIPTION:
                checksum = bl.CHECKSUM if bl.parse_format_description(event).checksum else 0
            body = event[bl.HEADER : len(event) - checksum]
            if header.type == bl.ROTATE:
                rotate = bl.parse_rotate(body)
                file, pos = rotate.file, rotate.pos
            elif header.type in (bl.HEARTBEAT, bl.HEARTBEAT_V2):
                pos = max(pos, pos & ~0xFFFFFFFF | header.next_pos)
            elif not header.flags & bl.FLAG_ARTIFICIAL and header.type != bl.FORMAT_DESCRIPTION:
                pos = _behind(pos, header)
            if header.type in (bl.QUERY, bl.QUERY_COMPRESSED):
                found = self._found_in(header.type, body, FilePlace(file, pos))
                if found is not None:
                    yield found
            if end.at_or_before(FilePlace(file, pos)):
                return
        raise SourceUnavailableError("the log could not be read ahead to its end")

    def _found_in(self, kind: int, body: bytes, place: FilePlace) -> Found | None:
        query = bl.parse_query(body) if kind == bl.QUERY else bl.parse_query_compressed(body)
        if query.text in _BORING:
            return None
        text = statement_text(query, self._charsets)
        statement = ddl.parse_statement(text, query.database.decode("utf-8", "replace"))
        return Found(place, statement, text) if statement.kind in _LAYOUT_KINDS else None


def _behind(pos: int, header: bl.Header) -> int:
    """Positions are given modulo 2^32, and as 0 inside transactions of MariaDB 11."""
    near = pos + header.size
    return near if not header.next_pos else near + ((header.next_pos - near + (1 << 31)) % (1 << 32)) - (1 << 31)


def concerns(statement: ddl.Statement, table: TableId) -> bool:
    """Whether the statement may change how rows of the table are laid out. Names count whatever their case: some
    servers do not tell them apart."""
    if statement.kind not in _LAYOUT_KINDS:
        return False
    if statement.kind == "unclear":
        return True
    if statement.database and statement.database.casefold() == table.schema.casefold():
        return True
    wanted = (table.schema.casefold(), table.name.casefold())
    return any((named.schema.casefold(), named.name.casefold()) == wanted for named in statement.tables)


def statement_text(query: bl.Query, charsets: Charsets) -> str:
    """A statement's text, by the character set that its writer used."""
    found = charsets.collations.get(query.charset)
    if found is None or found.charset in UTF8:
        return query.text.decode("utf-8", "surrogateescape")
    decode = charsets.decoders.get(found.charset)
    if decode is not None:
        return decode(query.text).decode()
    return query.text.decode(_TEXT_CODECS.get(found.charset, "utf-8"), "surrogateescape")
