"""The replication slot and the publication of a pipeline: made, checked and described by us.

`tailrace tail` has a temporary slot, which the server drops with the connection that made it, however that ends. There
are no temporary publications: that of a `tail` that was killed stays until the next `tail` drops it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import psycopg
from psycopg import sql

from tailrace_capture.harm import Harm
from tailrace_capture.postgres.catalog import Rows
from tailrace_capture.postgres.replication import ReplicationStream, unavailable
from tailrace_schemas.errors import LOAD_AGAIN, PositionLostError, StopError
from tailrace_schemas.position import parse_lsn
from tailrace_schemas.table import TableId

FAILOVER_SLOTS = 170000  # the first server version that copies slots to standbys


def make_publication(connection: Rows, name: str, tables: Iterable[TableId]) -> frozenset[TableId]:
    """Create it for exactly these tables, or add those that are missing; returns those that were not in it. Partitions
    are published as their root.

    Raises:
        StopError: it exists and does not publish everything (code PUBLICATION_CHANGED), or may not be changed.
    """
    wanted = set(tables)
    row = connection.execute(
        "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot FROM pg_publication"
        " WHERE pubname = %s",
        (name,),
    ).fetchone()
    try:
        if row is None:
            _create(connection, name, wanted)
            return frozenset(wanted)
        all_tables, everything, via_root = row
        if not everything or not via_root:
            raise StopError(
                f"publication {name} does not publish all that is needed",
                code="PUBLICATION_CHANGED",
                hint=f"ALTER PUBLICATION {quoted(connection, name)} SET (publish = 'insert, update, delete, truncate',"
                " publish_via_partition_root = true)",
            )
        if all_tables:
            return frozenset()
        _check_filters(connection, name, wanted)
        there = {TableId(s, t) for s, t in connection.execute(_MEMBERS, (name,))}
        if missing := sorted(wanted - there):
            connection.execute(
                sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), _names(missing))
            )
        return frozenset(missing)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StopError(
            f"publication {name} cannot be made or changed",
            code="PRIVILEGE",
            detail=str(error).splitlines()[0],
            hint=f"as owner of the tables: CREATE PUBLICATION {quoted(connection, name)} FOR TABLE … WITH"
            " (publish_via_partition_root = true)",
        ) from error


def add_table(connection: Rows, name: str, table: TableId) -> None:
    """Add a table that appeared while the stream runs; nothing where it is published already.

    Raises:
        StopError: the publication is not ours (code PRIVILEGE), gone, or filters the table (PUBLICATION_CHANGED).
    """
    there = members(connection, name)
    if there is None:
        return
    if table in there:
        _check_filters(connection, name, {table})
        return
    statement = sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), sql.Identifier(*table))
    try:
        connection.execute(statement)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
        raise StopError(
            f"{table} cannot be added to publication {name}",
            code="PRIVILEGE",
            detail=str(error).splitlines()[0],
            hint=f"as owner of both: {statement.as_string(connection)}",
            table=table,
        ) from error


def renew_publication(connection: Rows, name: str) -> None:
    """Rule B4, once transactions have ended that wrote to tables before they joined: while it decodes such a one, a
    server notes that the table is not published, and releases before 14.18, 15.13, 16.9 and 17.5 keep to that note.
    Any change of the publication ends it. Where it is not ours, nothing has joined by us."""
    statement = sql.SQL("ALTER PUBLICATION {} SET (publish_via_partition_root = true)").format(sql.Identifier(name))
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
        connection.execute(statement)


def members(connection: Rows, name: str) -> dict[TableId, int] | None:
    """Tables of the publication, each with the oid of its membership (another one after it was dropped and added
    again); None for a publication of all tables, nothing for one that is gone."""
    row = connection.execute("SELECT puballtables FROM pg_publication WHERE pubname = %s", (name,)).fetchone()
    if row is None or row[0]:
        return None if row is not None else {}
    return {TableId(schema, table): oid for schema, table, oid in connection.execute(_MEMBERSHIPS, (name,))}


_MEMBERSHIPS = """
SELECT n.nspname, c.relname, r.oid FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = %s
"""

_MEMBERS = """
SELECT n.nspname, c.relname FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = %s
"""


def _create(connection: Rows, name: str, tables: set[TableId]) -> None:
    connection.execute(
        sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
            sql.Identifier(name), _names(sorted(tables))
        )
    )


def _names(tables: list[TableId]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*table) for table in tables)


def _check_filters(connection: Rows, name: str, tables: set[TableId]) -> None:
    """Row filters and column lists (PostgreSQL 15) would make the stream lie about the table."""
    if connection.info.server_version < 150000:
        return
    rows = connection.execute(
        "SELECT schemaname, tablename FROM pg_publication_tables t WHERE pubname = %s AND (rowfilter IS NOT NULL OR"
        " EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid WHERE p.pubname = %s AND"
        " r.prrelid = format('%%I.%%I', schemaname, tablename)::regclass AND r.prattrs IS NOT NULL))",
        (name, name),
    ).fetchall()
    for schema, table in rows:
        if TableId(schema, table) in tables:
            raise StopError(
                f"publication {name} has a row filter or column list on {schema}.{table}",
                code="PUBLICATION_CHANGED",
                hint=f"ALTER PUBLICATION {quoted(connection, name)} DROP TABLE {schema}.{table}; we add it again",
                table=TableId(schema, table),
            )


def claim_publication(connection: Rows, name: str, owner: str) -> None:
    """Note in the publication which log it serves, so that a start that died before its first commit record can be
    told from another pipeline's. Without the right to comment the note is left out."""
    comment = sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(sql.Identifier(name), sql.Literal(_note(owner)))
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute(comment)


def _note(owner: str) -> str:
    return f"tailrace log {owner}"


def _claimed(connection: Rows, publication: str, owner: str) -> bool:
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = %s", (publication,)
    ).fetchone()
    return bool(owner) and row is not None and row[0] == _note(owner)


def exists(connection: Rows, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (name,)).fetchone() is not None


def make_slot(connection: Rows, name: str, publication: str, owner: str) -> int:
    """Create the slot; returns the LSN from which it streams. Waits for the transactions that run now. From
    PostgreSQL 17 on it is a failover slot, which standbys copy.

    A slot that is there already was made by an earlier start of this pipeline, before anything was in its log
    (`owner`, the log's id, claimed the publication): nothing of it was published, so it is made anew.

    Raises:
        StopError: a slot of this name exists and no log of ours knows it (code SLOT_TAKEN), or none is free.
    """
    row = connection.execute(
        "SELECT active, database = current_database() FROM pg_replication_slots WHERE slot_name = %s", (name,)
    ).fetchone()
    if row is not None and row == (False, True) and _claimed(connection, publication, owner):
        connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    elif row is not None:
        raise StopError(
            f"replication slot {name} exists, but this pipeline has no log that belongs to it",
            code="SLOT_TAKEN",
            hint=f"if nothing uses it: SELECT pg_drop_replication_slot('{name}'); else choose another `slot`",
        )
    # temporary, two-phase, failover
    flags = ", false, false, true" if connection.info.server_version >= FAILOVER_SLOTS else ""
    query = f"SELECT lsn FROM pg_create_logical_replication_slot(%s, 'pgoutput'{flags})"
    try:
        row = connection.execute(query.encode(), (name,)).fetchone()
    except _SLOT_REFUSED as error:
        raise _slot_error(error, connection) from error
    assert row is not None
    return parse_lsn(row[0])


_SLOT_REFUSED = (psycopg.errors.ConfigurationLimitExceeded, psycopg.errors.InsufficientPrivilege)


def _slot_error(error: psycopg.Error, connection: Rows) -> StopError:
    if isinstance(error, psycopg.errors.ConfigurationLimitExceeded):
        return StopError(
            "no replication slot is free",
            code="NO_FREE_SLOT",
            hint="ALTER SYSTEM SET max_replication_slots = <more>; then restart the server, or drop an unused slot",
        )
    return StopError(
        "the role may not make a replication slot",
        code="PRIVILEGE",
        hint=f"ALTER ROLE {quoted(connection, connection.info.user)} REPLICATION",
    )


def make_temporary(
    connection: Rows, stream: ReplicationStream, name: str, publication: str, tables: Iterable[TableId]
) -> int:
    """Publication and slot of a `tail`; the slot is dropped with `stream`. Returns the LSN from which it streams.

    Raises:
        StopError: as `make_publication` and `make_slot`. SourceUnavailableError: a connection is gone.
    """
    with _one_tail_at_a_time(connection):
        _drop_stale(connection)
        make_publication(connection, publication, tables)
        try:
            return stream.make_temporary_slot(name)
        except _SLOT_REFUSED as error:
            raise _slot_error(error, connection) from error
        except psycopg.OperationalError as error:
            raise unavailable(error) from error


@contextlib.contextmanager
def _one_tail_at_a_time(connection: Rows) -> Iterator[None]:
    """While a `tail` makes its publication and then its slot, so that a publication without slot is a dead one's."""
    connection.execute("SELECT pg_advisory_lock(hashtextextended('tailrace tail', 0))")
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.OperationalError):  # with the connection the lock goes too
            connection.execute("SELECT pg_advisory_unlock(hashtextextended('tailrace tail', 0))")


def _drop_stale(connection: Rows) -> None:
    """Drop the publications that killed `tail`s have left in this database, as far as they are the role's."""
    stale = connection.execute(
        "SELECT pubname FROM pg_publication WHERE pubname ~ '^tailrace_tail_[0-9a-f]{8}$'"
        " AND pg_has_role(pubowner, 'USAGE') AND pubname NOT IN (SELECT slot_name FROM pg_replication_slots)"
    ).fetchall()
    for (name,) in stale:
        connection.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))


def check_slot(connection: Rows, name: str, position: int) -> None:
    """
    Raises:
        PositionLostError: the slot is gone or has lost WAL (code SLOT_LOST).
        StopError: it stands beyond `position`: it was made anew, or something else has read it (code SLOT_RECREATED).
    """
    row = connection.execute(
        "SELECT plugin, wal_status, confirmed_flush_lsn, database = current_database() FROM pg_replication_slots"
        " WHERE slot_name = %s",
        (name,),
    ).fetchone()
    hint = LOAD_AGAIN
    if row is None:
        raise PositionLostError(f"replication slot {name} is gone", code="SLOT_LOST", hint=hint)
    plugin, wal_status, confirmed, here = row
    if plugin != "pgoutput" or not here:
        raise StopError(
            f"slot {name} is not a pgoutput slot of this database",
            code="SLOT_TAKEN",
            hint=f"it was made anew by somebody else; {hint}, with another `slot`",
        )
    if wal_status == "lost":
        raise PositionLostError(
            f"replication slot {name} has lost WAL it needs",
            code="SLOT_LOST",
            detail="wal_status is lost",
            hint=f"raise max_slot_wal_keep_size; {hint}",
        )
    if confirmed is not None and parse_lsn(confirmed) > position:
        raise StopError(
            f"replication slot {name} stands beyond what the log holds",
            code="SLOT_RECREATED",
            detail=f"confirmed_flush_lsn {confirmed}: it was made anew, or another reader has advanced it",
            hint=hint,
        )


def quoted(connection: Rows, name: str) -> str:
    return sql.Identifier(name).as_string(connection)


def harm(connection: Rows, name: str) -> Harm:
    """What the slot keeps. Source: PostgreSQL manual, "pg_replication_slots" (safe_wal_size is null where
    max_slot_wal_keep_size is -1)."""
    row = connection.execute(
        "SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
        " ELSE pg_current_wal_lsn() END, restart_lsn)::bigint, safe_wal_size, wal_status,"
        " (SELECT setting::bigint << 20 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')"
        " FROM pg_replication_slots WHERE slot_name = %s",
        (name,),
    ).fetchone()
    if row is None:
        return Harm(slot=name)
    kept, left, status, limit = row
    return Harm(
        slot=name,
        wal_kept_bytes=None if kept is None else max(0, kept),
        wal_left_bytes=left,
        wal_limit_bytes=None if limit is None or limit < 0 else limit,
        wal_status=status or "",
        hint=f"or give the pipeline up: tailrace drop, which runs SELECT pg_drop_replication_slot('{name}')",
    )
