"""Whether the pipeline would survive a fail-over, as far as the server that is asked can tell.

The primary knows of its slots and of the standbys' physical ones; whether a standby's copy of our slot is of use only
the standby knows, so `check` may be pointed at it. Without any standby there is nothing to say.
Source: PostgreSQL manual, "Logical Decoding", section "Replication Slot Synchronization".
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from tailrace_capture.postgres.catalog import Rows
from tailrace_capture.postgres.slot import FAILOVER_SLOTS
from tailrace_schemas.errors import Finding

_LOST = "after a fail-over the load must begin anew"
_COPIES = (
    "at the standby: ALTER SYSTEM SET sync_replication_slots = on; ALTER SYSTEM SET hot_standby_feedback = on;"
    " primary_slot_name set, primary_conninfo with a dbname; then SELECT pg_reload_conf()"
)


def findings(connection: Rows, slot: str) -> list[Finding]:
    """Of a primary: what keeps `slot` from going over to its standbys. Of a standby: that it is one, and its copy."""
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    new = connection.info.server_version >= FAILOVER_SLOTS
    if row == (True,):
        standby = Finding("error", "STANDBY", "the source is a standby", "point the URL at the primary")
        return [standby, *(_at_the_standby(connection, slot) if new else ())]
    if not _standbys(connection):
        return []
    if not new:
        text = f"replication slots do not go over to a standby before PostgreSQL 17: {_LOST}"
        return [Finding("warning", "SLOT_NOT_SAFE", text, "upgrade the source to PostgreSQL 17 or later")]
    return list(_at_the_primary(connection, slot))


def _standbys(connection: Rows) -> bool:
    """Physical slots, or whoever streams without a logical one, as far as the role may see."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical') OR EXISTS"
        " (SELECT FROM pg_stat_replication r WHERE state = 'streaming' AND NOT EXISTS"
        "  (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical'))"
    ).fetchone()
    return row == (True,)


def _at_the_primary(connection: Rows, slot: str) -> Iterator[Finding]:
    row = connection.execute(
        "SELECT failover, catalog_xmin FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    ).fetchone()
    if row is not None and not row[0]:
        text = f"slot {slot} is not a failover slot: {_LOST}"
        name = sql.Identifier(slot).as_string(connection)
        remedy = f"by psql 'replication=database …', no capture running: ALTER_REPLICATION_SLOT {name} (FAILOVER true)"
        yield Finding("warning", "SLOT_NOT_SAFE", text, remedy)
    setting = connection.execute("SELECT current_setting('synchronized_standby_slots')").fetchone()
    if setting == ("",):
        found = connection.execute("SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'physical' ORDER BY 1")
        names = ", ".join(str(name) for (name,) in found) or "<slots of the standbys>"
        text = "synchronized_standby_slots is empty: capture may be ahead of a standby, which then cannot take over"
        remedy = f"ALTER SYSTEM SET synchronized_standby_slots = '{names}'; SELECT pg_reload_conf()"
        yield Finding("warning", "SLOT_NOT_SAFE", text, remedy)
    if row is not None and row[0]:
        yield from _copies(connection, slot)


def _copies(connection: Rows, slot: str) -> Iterator[Finding]:
    """A standby that holds slots tells their oldest catalogue row by its feedback. It tells the one it needs itself, so
    a copy that could not be completed is younger than the slot."""
    row = connection.execute(
        "SELECT count(p.catalog_xmin), bool_or(age(p.catalog_xmin) >= age(s.catalog_xmin))"
        " FROM pg_replication_slots p, pg_replication_slots s WHERE p.slot_type = 'physical' AND s.slot_name = %s",
        (slot,),
    ).fetchone()
    assert row is not None
    if row[0] == 0:
        yield Finding("warning", "SLOT_NOT_SAFE", f"no standby holds a copy of slot {slot}: {_LOST}", _COPIES)
    elif not row[1]:
        yield _incomplete(f"no standby's copy of slot {slot} is complete")


def _incomplete(text: str) -> Finding:
    remedy = "at the primary, while the pipeline runs: SELECT pg_log_standby_snapshot(); then check again"
    return Finding("warning", "SLOT_NOT_SAFE", f"{text}: {_LOST}", remedy)


def _at_the_standby(connection: Rows, slot: str) -> list[Finding]:
    row = connection.execute(
        "SELECT synced, temporary, invalidation_reason FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    ).fetchone()
    if row is None:
        return [Finding("warning", "SLOT_NOT_SAFE", f"this standby has no copy of slot {slot}: {_LOST}", _COPIES)]
    synced, temporary, invalid = row
    if not synced:
        text = f"slot {slot} is this server's own, of a time when it was the primary: it ends the copying of all slots"
        return [Finding("warning", "SLOT_SYNC", text, f"here: SELECT pg_drop_replication_slot('{slot}')")]
    if temporary or invalid:
        return [_incomplete(f"this standby's copy of slot {slot} is not complete")]
    return []
