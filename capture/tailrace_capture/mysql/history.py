"""Whether a server's binary log holds what the log does (rule A3), and may be gone on from.

The same server must have the log's end where it was: a reset, a restored copy, and a crash that took back what was sent
write other transactions under the same GTIDs. What another one may have besides is told in `errant`.
Sources: MySQL manual, "GTID Life Cycle"; MariaDB documentation, "Global Transaction ID".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pymysql
from pymysql.connections import Connection

from tailrace_capture.mysql.connection import ask, classified, is_mariadb, run, server_version, variable
from tailrace_capture.mysql.progress import BinlogPosition, reading_start
from tailrace_schemas.errors import LOAD_AGAIN, PositionLostError, StopError, TailraceError
from tailrace_schemas.gtid import GtidSet, MariaGtids
from tailrace_schemas.position import FilePlace, GtidPosition, MariaPosition

_WRONG_OFFSET = 1220  # ER_ERROR_WHEN_EXECUTING_COMMAND: no event begins there


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
        files = list(binlog_files(connection))
        if start.file not in files:
            lost = f"{start.file} is purged; the oldest is {files[0] if files else 'none'}"
    if lost:
        raise PositionLostError(
            "the source no longer has the binary log to go on from", code="LOG_LOST", detail=lost, hint=LOAD_AGAIN
        )


def binlog_files(connection: Connection[Any]) -> dict[str, int]:
    """Name → bytes, oldest first."""
    return {str(row[0]): int(row[1]) for row in ask(connection, "SHOW BINARY LOGS")}


# --- the same server


def refuse_rewritten(connection: Connection[Any], position: BinlogPosition) -> None:
    """Of the server that `position` was read from.

    Raises:
        StopError: its log does not end the log's transactions where it did (SOURCE_BEHIND).
    """
    place = position.place
    files = binlog_files(connection)
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
