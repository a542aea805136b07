"""Which server this is, and whether its history holds what is in the log (rule A3).

system_identifier   of the cluster: a standby and every restored copy share it
timeline            a promotion and a restore to a point in time begin a new one; empty on a standby
database            the one that the slot belongs to

Source: PostgreSQL manual, "Timelines", and "Streaming Replication Protocol" (TIMELINE_HISTORY).
"""

from __future__ import annotations

import psycopg

from tailrace_capture.postgres.catalog import Rows
from tailrace_capture.postgres.replication import ReplicationStream, unavailable
from tailrace_schemas.errors import LOAD_AGAIN, RefusedError, SourceUnavailableError, StopError
from tailrace_schemas.position import format_lsn, parse_lsn
from tailrace_schemas.uri import DatabaseUrl

_IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()),
  CASE WHEN pg_is_in_recovery() THEN '' ELSE
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int::text END,
  current_database()::text
"""


def of(connection: Rows) -> dict[str, str]:
    """
    Raises:
        SourceUnavailableError: the connection is gone.
    """
    try:
        row = connection.execute(_IDENTITY).fetchone()
    except psycopg.OperationalError as error:
        raise unavailable(error) from error
    assert row is not None
    return _named(row)


def asked(stream: ReplicationStream) -> dict[str, str]:
    """The same by a replication connection, before it streams."""
    return _named(stream.ask(_IDENTITY))


def _named(row: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(("system_identifier", "timeline", "database"), row, strict=True))


def changed(before: dict[str, str], now: dict[str, str]) -> SourceUnavailableError:
    """A connection of this run led to another server than the first one; the next run checks it."""
    differ = [word for word in now if now[word] != before[word]]
    words = [f"{word} is {now[word] or 'none'}, was {before[word] or 'none'}" for word in differ]
    return SourceUnavailableError("another server answers at the source's address", detail="; ".join(words))


def refuse_standby(here: dict[str, str], url: DatabaseUrl) -> None:
    """
    Raises:
        RefusedError: a standby has no slot of ours, and its snapshots leave out what runs at the primary (rule B5). A
            capture that ran before waits: it may be promoted yet.
    """
    if not here["timeline"]:
        raise RefusedError(
            f"the source {url.place} is a standby",
            code="STANDBY",
            hint="point the URL at the primary",
        )


def refuse_other(here: dict[str, str], before: dict[str, str]) -> None:
    """
    Raises:
        StopError: another cluster or database (WRONG_SOURCE).
    """
    for word in ("system_identifier", "database"):
        if here[word] != before[word]:
            raise StopError(
                "this is not the source that the log was written from",
                code="WRONG_SOURCE",
                detail=f"{word} is {here[word]}, in the log {before[word]}",
                hint="point the URL at that source again, or give this one a pipeline of its own: --name",
            )


def refuse_fork(history: str, here: str, before: str, needed: int) -> None:
    """Timeline `here`, whose history file is `history`, must hold everything of timeline `before` up to `needed`.

    Raises:
        StopError: it left before that, or never came from there (SOURCE_BEHIND).
    """
    for line in history.splitlines():
        timeline, _, rest = line.strip().partition("\t")
        if timeline != before:
            continue
        end = rest.split()[0]
        if parse_lsn(end) >= needed:
            return
        raise StopError(
            "the source was failed over, or restored, to a state that lacks transactions the log holds",
            code="SOURCE_BEHIND",
            detail=f"timeline {before} ended at {end}, the log is at {format_lsn(needed)}",
            hint=LOAD_AGAIN,
        )
    raise StopError(
        f"timeline {here} does not descend from timeline {before} of the log", code="SOURCE_BEHIND", hint=LOAD_AGAIN
    )
