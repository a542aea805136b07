"""Whether a server that the source was failed over to wrote something of its own before the last of what the log holds.

Read after the log's last transaction, such a one would undo what came behind it at that server. So its binary log is
read once, for its GTIDs and their order only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pymysql.connections import Connection

from tailrace_capture.mysql import binlog as bl
from tailrace_capture.mysql.connection import ask
from tailrace_capture.mysql.history import binlog_files
from tailrace_capture.mysql.progress import BinlogPosition
from tailrace_capture.mysql.protocol import DumpClient, events
from tailrace_schemas.errors import LOAD_AGAIN, StopError
from tailrace_schemas.gtid import GtidSet, MariaGtids
from tailrace_schemas.position import FilePlace, GtidPosition, MariaPosition

Dump = Callable[[], DumpClient]
_SILENCE_SECONDS = 60.0
_STRICT = "SET GLOBAL gtid_strict_mode = ON, on every server of the group"


def refuse_errant(connection: Connection[Any], dump: Dump, needed: list[BinlogPosition]) -> None:
    """From the file on in which the first unread transaction may stand.

    Raises:
        StopError: transactions that the log does not hold stand before some that it holds (SOURCE_BEHIND, all named);
            MariaDB's strict mode is off, so that its numbers tell nothing (GTID_STRICT).
    """
    mysql = [position.gtids for position in needed if isinstance(position, GtidPosition)]
    maria = [position.gtids for position in needed if isinstance(position, MariaPosition)]
    errant = ""
    if mysql:
        file = _first_file(connection, lambda text: mysql[0].contains(GtidSet.parse(text)))
        errant = str(find_errant((gtid for gtid in _gtids(dump, file) if isinstance(gtid, bl.MysqlGtid)), mysql))
    elif maria:
        _refuse_lax(connection)
        own = int(ask(connection, "SELECT @@GLOBAL.server_id")[0][0])
        file = _first_file(connection, lambda text: _holds_list(maria[0], text))
        found = (gtid for gtid in _gtids(dump, file) if isinstance(gtid, bl.MariaGtid))
        errant = ", ".join(find_errant_of_maria(found, maria, own))
    if errant:
        raise StopError(
            "the source was failed over to a server that wrote transactions of its own before the last ones of the log",
            code="SOURCE_BEHIND",
            detail=f"errant: {errant}; the log is at {needed[0]}",
            hint=LOAD_AGAIN,
        )


def _refuse_lax(connection: Connection[Any]) -> None:
    if not int(ask(connection, "SELECT @@GLOBAL.gtid_strict_mode")[0][0]):
        raise StopError(
            "the source was failed over to a server without gtid_strict_mode",
            code="GTID_STRICT",
            detail="what it wrote of its own cannot be told from what it received",
            hint=_STRICT,
        )


def find_errant(gtids: Iterable[bl.MysqlGtid], known: list[GtidSet]) -> GtidSet:
    """Transactions outside one of the sets `known` that stand before one inside it. A replica's threads may change the
    order of independent transactions: what its own source numbered later is no errant one."""
    unread = [GtidSet({}) for _ in known]
    errant = GtidSet({})
    for gtid in gtids:
        source, number = gtid.source, gtid.number
        for n, held in enumerate(known):
            if not held.has(source, number):
                unread[n] = unread[n].plus(source, number)
            elif unread[n].intervals:
                errant = errant.union(_before(unread[n], source, number))
    return errant


def _before(unread: GtidSet, source: str, number: int) -> GtidSet:
    """Those of `unread` that may not stand before this transaction."""
    own = tuple((a, min(b, number)) for a, b in unread.intervals.get(source, ()) if a < number)
    others = {s: spans for s, spans in unread.intervals.items() if s != source}
    return GtidSet({**others, source: own} if own else others)


def find_errant_of_maria(gtids: Iterable[bl.MariaGtid], known: list[MariaGtids], own: int) -> list[str]:
    """As `find_errant`, for what the server `own` wrote itself. Strict mode keeps each domain in order, and domains are
    independent of each other for what was received."""
    unread: list[list[str]] = [[] for _ in known]
    errant: dict[str, None] = {}
    for gtid in gtids:
        for n, held in enumerate(known):
            if not held.has(gtid.domain, gtid.sequence):
                unread[n] += [str(gtid)] if gtid.server == own else []
            elif unread[n]:
                errant.update(dict.fromkeys(unread[n]))
                unread[n] = []
    return list(errant)


def _first_file(connection: Connection[Any], holds: Callable[[str], bool]) -> str:
    """The newest file before which there is nothing but what is held: each begins with a list of what came before."""
    files = list(binlog_files(connection))
    for file in reversed(files):
        for _, _, kind, _, _, info in ask(connection, "SHOW BINLOG EVENTS IN %s LIMIT 3", (file,)):
            if str(kind) in ("Previous_gtids", "Gtid_list") and holds(str(info or "")):
                return file
    return files[0]


def _holds_list(held: MariaGtids, info: str) -> bool:
    """`info`: `[0-1-7,0-2-9]`, the last of each server in each domain."""
    parts = [part.strip().split("-") for part in info.strip("[]").split(",") if part.strip()]
    return all(held.has(int(domain), int(number)) for domain, _, number in parts)


def _gtids(dump: Dump, file: str) -> Iterator[bl.MysqlGtid | bl.MariaGtid]:
    """Every GTID from the beginning of `file` to the end of the log, in its order."""
    client = dump()
    try:
        client.from_place(FilePlace(file, 4))
        checksum = client.checksum
        for event in events(client, _SILENCE_SECONDS):
            kind = event[4]
            if kind == bl.FORMAT_DESCRIPTION:
                checksum = bl.parse_format_description(event).checksum
                continue
            if kind not in (bl.GTID, bl.GTID_TAGGED, bl.MARIADB_GTID):
                continue
            body = event[bl.HEADER : len(event) - (bl.CHECKSUM if checksum else 0)]
            if kind == bl.MARIADB_GTID:
                yield bl.parse_maria_gtid(body, bl.parse_header(event).server_id)
            else:
                yield bl.parse_mysql_gtid(body) if kind == bl.GTID else bl.parse_tagged_gtid(body)
    finally:
        client.close()
