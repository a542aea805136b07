"""How far the binary log that is read next is from being purged.

A server purges whole files, oldest first, and a file only when its last write is older than the expiry; it looks at a
rotation and at a start. So what we need lives at least until the newest transaction that we have is older than the
expiry, and the file being written is never purged.
Source: MySQL manual, "PURGE BINARY LOGS", binlog_expire_logs_seconds; MariaDB, expire_logs_days.
"""

from __future__ import annotations

import time
from typing import Any

from pymysql.connections import Connection

from tailrace_capture.harm import Harm
from tailrace_capture.mysql.connection import ask, variable
from tailrace_schemas.position import FilePlace

_DAY = 86_400


def binlog_harm(connection: Connection[Any], place: FilePlace | None, source_ms: int) -> Harm:
    """`place`: of the log's position, where it is known; `source_ms` as in `MeasuresHarm.harm`.

    Raises:
        SourceUnavailableError; StopError: the user may not see the logs (code GRANT).
    """
    logs = [(FilePlace(str(row[0]), 0), int(row[1])) for row in ask(connection, "SHOW BINARY LOGS")]
    expire = expire_seconds(connection)
    known = place is not None and bool(logs) and place.number >= logs[0][0].number
    return Harm(
        binlog_oldest=logs[0][0].file if logs else "",
        binlog_behind_bytes=_behind(logs, place) if known and place is not None else None,
        binlog_spare_bytes=sum(size for file, size in logs if file.number < place.number) if known and place else None,
        binlog_expire_seconds=expire,
        binlog_left_seconds=_left(logs, place, expire, source_ms) if known and place is not None else None,
        hint=_keep_longer(connection, expire),
    )


def expire_seconds(connection: Connection[Any]) -> int:
    """After how long a binary log may be purged; 0: never by itself. MySQL: the seconds count where both are set."""
    if variable(connection, "binlog_expire_logs_auto_purge") == "OFF":
        return 0
    seconds = int(variable(connection, "binlog_expire_logs_seconds") or 0)
    return seconds or int(float(variable(connection, "expire_logs_days") or 0) * _DAY)


def _behind(logs: list[tuple[FilePlace, int]], place: FilePlace) -> int:
    return max(0, sum(size for file, size in logs if file.number >= place.number) - place.pos)


def _left(logs: list[tuple[FilePlace, int]], place: FilePlace, expire: int, source_ms: int) -> int | None:
    """At the least; None where nothing is purged, or it cannot be told."""
    if not expire:
        return None
    if place.number >= logs[-1][0].number:
        return expire
    return None if not source_ms else max(0, int(expire - (time.time() - source_ms / 1000)))


def _keep_longer(connection: Connection[Any], expire: int) -> str:
    word = "binlog_expire_logs_seconds"
    if variable(connection, word) is None:
        return f"at the source: SET GLOBAL expire_logs_days = {max(1, 2 * expire // _DAY)}"
    return f"at the source: SET GLOBAL {word} = {2 * expire}"
