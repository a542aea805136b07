"""Whether a server's binary log goes on from what the log holds (rule A3): nothing missing, nothing slipped in between.

The same server must have the log's end where it was: a reset, a restored copy, and a crash that took back what was sent
write other transactions under the same GTIDs. Another one (a promoted replica) must have all that the log holds, and
nothing else before the last of it: what it wrote of its own in between would be applied too late, or never.
Sources: MySQL manual, "GTID Life Cycle"; MariaDB documentation, "Global Transaction ID".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pymysql
from pymysql.connections import Connection

from tailrace_capture.mysql import binlog as bl
from tailrace_capture.mysql.connection import ask, classified, is_mariadb, run, server_version, variable
from tailrace_capture.mysql.progress import BinlogPosition, reading_start
from tailrace_capture.mysql.protocol import DumpClient, events
from tailrace_schemas.errors import LOAD_AGAIN, PositionLostError, StopError, TailraceError
from tailrace_schemas.gtid import GtidSet, MariaGtids
from tailrace_schemas.position import FilePlace, GtidPosition, MariaPosition

Dump = Callable[[], DumpClient]
_WRONG_OFFSET = 1220  # ER_ERROR_WHEN_EXECUTING_COMMAND: no event begins there
_SILENCE_SECONDS = 60.0
_STRICT = "SET GLOBAL gtid_strict_mode = ON, on every server of the group"


def refuse_behind(connection: Connection[Any], end: BinlogPosition, needed: Iterable[BinlogPosition]) -> None:
    """Whatever the log holds, the source must have too. `end`: where its log ends now.

    Raises:
        StopError: it does not (SOURCE_BEHIND), or counts in another way (GTID_MODE).
    """
    for position in needed:
        if type(position) is not type(end):
            raise StopError(
                "the source's GTID mode is another than when the log was written",
                code="GTID_MODE",
                detail=f"the log is at {position}, the source at {end}",
                hint=LOAD_AGAIN,
            )
        missing = ""
        if isinstance(position, GtidPosition) and isinstance(end, GtidPosition):
            missing = str(position.gtids.minus(end.gtids))
        elif isinstance(position, MariaPosition):
            missing = _missing_of_maria(connection, position.gtids)
        elif not end.contains(position):
            missing = f"what lies between {end} and {position}"
        if missing:
            raise StopError(
                "the source lacks transactions that the log holds",
                code="SOURCE_BEHIND",
                detail=f"missing: {missing}; the log is at {position}, the source at {end}",
                hint=LOAD_AGAIN,
            )


def _missing_of_maria(connection: Connection[Any], gtids: MariaGtids) -> str:
    """A higher number in the domain proves nothing, another server may have given it: the binary log's state tells the
    last transaction of each server in each domain."""
    text = str(ask(connection, "SELECT @@GLOBAL.gtid_binlog_state")[0][0] or "")
    state = {(d, s): n for d, s, n in (map(int, part.split("-")) for part in text.split(",") if part)}
    out = []
    for domain, (server, number) in sorted(gtids.domains.items()):
        has = state.get((domain, server), 0)
        if has < number:
            more = f"{domain}-{server}-{has + 1} to " if has + 1 < number else ""
            out.append(f"{more}{domain}-{server}-{number}")
    return ", ".join(out)


def refuse_purged(connection: Connection[Any], position: BinlogPosition) -> None:
    """
    Raises:
        PositionLostError: binary logs that are needed are purged (code LOG_LOST).
    """
    start = reading_start(position)
    lost = ""
    if isinstance(start, GtidSet):
        purged = GtidSet.parse(str(ask(connection, "SELECT @@GLOBAL.gtid_purged")[0][0]))
        if not start.contains(purged):
            lost = f"purged without having been read: {purged.minus(start)}"
    elif isinstance(start, FilePlace):
        files = list(_files(connection))
        if start.file not in files:
            lost = f"{start.file} is purged; the oldest is {files[0] if files else 'none'}"
    if lost:
        raise PositionLostError(
            "the source no longer has the binary log to go on from", code="LOG_LOST", detail=lost, hint=LOAD_AGAIN
        )


def _files(connection: Connection[Any]) -> dict[str, int]:
    """Name → bytes, oldest first."""
    return {str(row[0]): int(row[1]) for row in ask(connection, "SHOW BINARY LOGS")}


# --- the same server


def refuse_rewritten(connection: Connection[Any], position: BinlogPosition) -> None:
    """Of the server that `position` was read from.

    Raises:
        StopError: its log does not end the log's transactions where it did (SOURCE_BEHIND).
    """
    place = position.place
    files = _files(connection)
    if place is None or not files:
        return
    newest = FilePlace(list(files)[-1], 0)
    wrong = ""
    if place.file not in files:
        if newest.file.rpartition(".")[0] == place.file.rpartition(".")[0] and newest.number < place.number:
            wrong = f"its binary log ends with {newest.file}"
    elif files[place.file] < place.pos:
        wrong = f"{place.file} ends at {files[place.file]}"
    else:
        wrong = _other_there(connection, place, position)
    if wrong:
        raise StopError(
            "the source's history was reset, restored, or taken back by a crash",
            code="SOURCE_BEHIND",
            detail=f"{wrong}; the log is at {position}",
            hint=LOAD_AGAIN,
        )


def _other_there(connection: Connection[Any], place: FilePlace, position: BinlogPosition) -> str:
    """What stands at `place` that cannot be what we read up to there; empty when nothing speaks against it."""
    if isinstance(position, MariaPosition):
        # Not by SHOW BINLOG EVENTS: MariaDB lets nobody commit while it looks for the place.
        found = ask(connection, "SELECT BINLOG_GTID_POS(%s, %s)", (place.file, place.pos))[0][0]
        there = MariaGtids.parse(str(found or ""))
        if found is None:
            return f"no event begins at {place}"
        return "" if there.domains.items() <= position.gtids.domains.items() else f"at {place} it stands at {there}"
    try:
        rows = run(connection, f"SHOW BINLOG EVENTS IN %s FROM {place.pos} LIMIT 8", (place.file,))
    except pymysql.MySQLError as error:
        if error.args and error.args[0] == _WRONG_OFFSET:
            return f"no event begins at {place}"
        with classified("ask the source"):
            raise
    gtid = next((str(row[5]).split("'")[1] for row in rows if str(row[2]) in ("Gtid", "Gtid_tagged")), "")
    source, _, number = gtid.rpartition(":")
    if isinstance(position, GtidPosition) and gtid and position.gtids.has(source.lower(), int(number)):
        return f"behind {place} it has {gtid}"
    return ""


# --- another server


def refuse_errant(connection: Connection[Any], dump: Dump, needed: list[BinlogPosition]) -> None:
    """Of a server that the source was failed over to. MySQL's binary log is read from the file in which the first
    unread transaction may stand; MariaDB's strict mode says that nothing slipped in.

    Raises:
        StopError: transactions that the log does not hold stand before some that it holds (SOURCE_BEHIND, all named);
            strict mode is off (GTID_STRICT).
    """
    if is_mariadb(connection):
        if not int(ask(connection, "SELECT @@GLOBAL.gtid_strict_mode")[0][0]):
            raise StopError(
                "the source was failed over to a server without gtid_strict_mode",
                code="GTID_STRICT",
                detail="what it wrote of its own cannot be told from what it received",
                hint=_STRICT,
            )
        return
    known = [position.gtids for position in needed if isinstance(position, GtidPosition)]
    if not known:
        return
    errant = find_errant(_gtids(dump, _first_file(connection, known[0])), known)
    if errant.intervals:
        raise StopError(
            "the source was failed over to a server that wrote transactions of its own before the last ones of the log",
            code="SOURCE_BEHIND",
            detail=f"errant: {errant}; the log is at {needed[0]}",
            hint=LOAD_AGAIN,
        )


def find_errant(gtids: Iterable[tuple[str, int]], known: list[GtidSet]) -> GtidSet:
    """Transactions outside one of the sets `known` that stand before one inside it. A replica's threads may change the
    order of independent transactions: what its own source numbered later is no errant one."""
    unread = [GtidSet({}) for _ in known]
    errant = GtidSet({})
    for source, number in gtids:
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


def _first_file(connection: Connection[Any], held: GtidSet) -> str:
    """The newest file before which there is nothing but what is held."""
    files = list(_files(connection))
    for file in reversed(files):
        for _, _, kind, _, _, info in ask(connection, "SHOW BINLOG EVENTS IN %s LIMIT 3", (file,)):
            if str(kind) == "Previous_gtids" and held.contains(GtidSet.parse(str(info or ""))):
                return file
    return files[0]


def _gtids(dump: Dump, file: str) -> Iterator[tuple[str, int]]:
    """Every GTID from the beginning of `file` to the end of the log, in its order."""
    client = dump()
    try:
        client.from_place(FilePlace(file, 4))
        checksum = client.checksum
        for event in events(client, _SILENCE_SECONDS):
            kind = event[4]
            if kind == bl.FORMAT_DESCRIPTION:
                checksum = bl.parse_format_description(event).checksum
            elif kind in (bl.GTID, bl.GTID_TAGGED):
                body = event[bl.HEADER : len(event) - (bl.CHECKSUM if checksum else 0)]
                gtid = bl.parse_mysql_gtid(body) if kind == bl.GTID else bl.parse_tagged_gtid(body)
                yield gtid.source, gtid.number
    finally:
        client.close()


# --- replicas as sources


def is_replica(connection: Connection[Any]) -> bool:
    """It takes another server's changes; False also where the user may not ask."""
    mariadb = is_mariadb(connection)
    new_words = not mariadb and server_version(connection) >= (8, 1)
    words = "SHOW ALL SLAVES STATUS" if mariadb else "SHOW REPLICA STATUS" if new_words else "SHOW SLAVE STATUS"
    try:
        return bool(ask(connection, words))
    except TailraceError:
        return False


def refuse_silent_replica(connection: Connection[Any]) -> None:
    """
    Raises:
        StopError: a replica that does not write down what it receives (REPLICA_UPDATES).
    """
    names = ("log_replica_updates", "log_slave_updates")
    off = [name for name in names if variable(connection, name) == "OFF"]
    if off and is_replica(connection):
        raise StopError(
            "the source is a replica, and what it receives is not in its binary log",
            code="REPLICA_UPDATES",
            hint=f"[mysqld]\n{off[0]} = ON\nthen restart the server, or point the URL at its own source",
        )
