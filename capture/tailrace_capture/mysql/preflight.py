"""Everything that must be so at a MySQL or MariaDB source, asked at once, with the statement that helps."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from tailrace_capture.mysql.catalog import Catalogue
from tailrace_capture.mysql.connection import ask, is_mariadb, server_version
from tailrace_capture.mysql.history import is_replica
from tailrace_schemas.errors import Finding, SourceUnavailableError, TailraceError
from tailrace_schemas.table import TableId

_WITHOUT_VERSIONS = frozenset({"myisam", "aria", "memory", "csv", "archive", "merge", "mrg_myisam"})


def findings(
    connection: Connection[Any],
    selected: list[TableId],
    catalogue: Catalogue,
    server_id: int,
    *,
    load: bool,
    stream: bool,
    own: str,
) -> list[Finding]:
    settings = _settings(connection)
    mariadb = is_mariadb(connection)
    out = _about_tables(selected, catalogue, load)
    if stream:
        out += _about_log(settings, mariadb, is_replica(connection))
        out += _about_gtids(settings, mariadb)
        out += _about_grants(connection, mariadb, load=load, lock=_needs_lock(settings, mariadb, catalogue))
        out += _about_server_id(connection, settings, server_id, own)
    elif load:
        out += _about_select(connection)
    return out


def _settings(connection: Connection[Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in ask(connection, "SHOW GLOBAL VARIABLES")}


def _error(code: str, message: str, remedy: str, table: TableId | None = None) -> Finding:
    return Finding("error", code, message, remedy, table)


def _warning(code: str, message: str, remedy: str, table: TableId | None = None) -> Finding:
    return Finding("warning", code, message, remedy, table)


def _about_log(settings: dict[str, str], mariadb: bool, replica: bool) -> list[Finding]:
    if settings.get("log_bin") != "ON":
        remedy = "[mysqld]\nlog_bin = binlog\nserver_id = 1\nthen restart the server"
        return [_error("LOG_BIN", "the source writes no binary log", remedy)]
    out = []
    if settings.get("binlog_format", "ROW") != "ROW":
        text = f"binlog_format is {settings['binlog_format']}; changes must be written as rows"
        out.append(_error("BINLOG_FORMAT", text, "SET GLOBAL binlog_format = ROW"))
    if settings.get("binlog_row_image", "FULL") != "FULL":
        text = f"binlog_row_image is {settings['binlog_row_image']}; rows must be written whole"
        out.append(_error("ROW_IMAGE", text, "SET GLOBAL binlog_row_image = FULL"))
    metadata = settings.get("binlog_row_metadata")
    if metadata != "FULL":
        cause = "this server version" if metadata is None else f"binlog_row_metadata = {metadata}"
        text = f"{cause} does not name columns in the log; a table whose changes cannot be followed surely will stop"
        remedy = "upgrade the server" if metadata is None else "SET GLOBAL binlog_row_metadata = FULL"
        out.append(_warning("ROW_METADATA", text, remedy))
    if settings.get("sync_binlog") != "1":
        text = f"sync_binlog is {settings.get('sync_binlog')}: a crash of its machine may take back what was sent"
        out.append(_warning("SYNC_BINLOG", text, "SET GLOBAL sync_binlog = 1"))
    word = "log_slave_updates" if mariadb or "log_replica_updates" not in settings else "log_replica_updates"
    if settings.get(word) == "OFF":
        said = "this server is a replica, and" if replica else "if this server is a replica,"
        text = f"{word} is OFF: {said} what it receives is not in its log"
        found = _error if replica else _warning
        out.append(found("REPLICA_UPDATES", text, f"[mysqld]\n{word} = ON\nthen restart the server"))
    return out


def _about_gtids(settings: dict[str, str], mariadb: bool) -> list[Finding]:
    if not mariadb:
        mode = settings.get("gtid_mode", "OFF")
        if mode == "ON":
            return []
        steps = ("OFF_PERMISSIVE", "ON_PERMISSIVE", "ON")
        remedy = "SET GLOBAL enforce_gtid_consistency = ON; " + "; ".join(f"SET GLOBAL gtid_mode = {s}" for s in steps)
        text = f"gtid_mode is {mode}: after a fail-over to another server the load must begin anew"
        return [_warning("GTID_MODE", text, remedy)]
    domains = {part.split("-")[0] for part in settings.get("gtid_binlog_state", "").split(",") if part}
    if settings.get("gtid_strict_mode") == "ON":
        return []
    text = "gtid_strict_mode is OFF, so sequence numbers need not ascend"
    found = _error if len(domains) > 1 else _warning
    return [found("GTID_STRICT", text, "SET GLOBAL gtid_strict_mode = ON")]


def _needs_lock(settings: dict[str, str], mariadb: bool, catalogue: Catalogue) -> bool:
    without_gtids = not mariadb and settings.get("gtid_mode") != "ON"
    keyless = any(not schema.key for schema in catalogue.tables.values())
    unversioned = any(engine.lower() in _WITHOUT_VERSIONS for engine in catalogue.storage.values())
    return without_gtids or unversioned or (keyless and not mariadb)


def _about_grants(connection: Connection[Any], mariadb: bool, *, load: bool, lock: bool) -> list[Finding]:
    user = _account(connection)
    held = _global_rights(connection)
    if "ALL PRIVILEGES" in held:
        return []
    monitor = "BINLOG MONITOR" if mariadb else "REPLICATION CLIENT"
    needed: dict[str, tuple[str, ...]] = {
        "REPLICATION SLAVE": ("REPLICATION SLAVE", "REPLICATION REPLICA"),
        monitor: (monitor, "REPLICATION CLIENT", "BINLOG MONITOR"),
    }
    if lock and load:
        needed["RELOAD"] = ("RELOAD", "FLUSH_TABLES")
        needed["LOCK TABLES"] = ("LOCK TABLES",)
    out = [
        _error("GRANT", f"{user} lacks {right}", f"GRANT {right} ON *.* TO {user}")
        for right, names in needed.items()
        if not held.intersection(names)
    ]
    return out + _about_select(connection)


def _about_select(connection: Connection[Any]) -> list[Finding]:
    """Tables that may not be read are not even listed, so nothing of them can be said here."""
    user = _account(connection)
    texts = [str(row[0]) for row in ask(connection, "SHOW GRANTS")]
    if any("SELECT" in text.upper() or "ALL PRIVILEGES" in text.upper() for text in texts):
        return []
    return [_error("GRANT", f"{user} may read no table", f"GRANT SELECT ON *.* TO {user}")]


def _account(connection: Connection[Any]) -> str:
    user, _, host = str(ask(connection, "SELECT CURRENT_USER()")[0][0]).rpartition("@")
    return f"'{user}'@'{host}'"


def _global_rights(connection: Connection[Any]) -> set[str]:
    out: set[str] = set()
    for (grant,) in ask(connection, "SHOW GRANTS"):
        text = str(grant).upper()
        if text.startswith("GRANT ") and " ON *.* TO " in text:
            out |= {right.strip() for right in text[6 : text.index(" ON *.* TO ")].split(",")}
    return out


def _about_server_id(connection: Connection[Any], settings: dict[str, str], server_id: int, own: str) -> list[Finding]:
    if settings.get("server_id") == str(server_id):
        text = f"our server_id {server_id} is the source's own"
        return [_error("SERVER_ID", text, "set another source.server_id in the pipeline")]
    try:
        holder = server_id_holder(connection, server_id)
    except TailraceError:
        return []  # what is missing for this question is a finding of its own
    if holder is None:
        return []
    text = f"server_id {server_id} is in use by {holder}"
    if holder.startswith(own):
        return [_warning("SERVER_ID", text, "stop the other capture of this pipeline first")]
    return [_error("SERVER_ID", text, "set another source.server_id in the pipeline")]


def server_id_holder(connection: Connection[Any], server_id: int) -> str | None:
    """Who is registered as a replica under this id, if anyone."""
    new_words = not is_mariadb(connection) and server_version(connection) >= (8, 2)
    for row in ask(connection, "SHOW REPLICAS" if new_words else "SHOW SLAVE HOSTS"):
        if int(row[0]) == server_id:
            return str(row[1] or "a replica without a name")
    return None


def refuse_taken_server_id(connection: Connection[Any], server_id: int) -> None:
    """The server would cut the other one off, and the other one us, for ever (case F9).

    Raises:
        SourceUnavailableError: someone streams under this id; also our own last connection, until the server
            has noticed that it is gone.
    """
    holder = server_id_holder(connection, server_id)
    if holder is not None:
        raise SourceUnavailableError(
            f"another reader ({holder}) streams under server_id {server_id}",
            code="SERVER_ID_TAKEN",
            hint="stop it, or set another source.server_id",
        )


def _about_tables(selected: list[TableId], catalogue: Catalogue, load: bool) -> list[Finding]:
    out = [_error(error.code, error.message, error.hint, table) for table, error in catalogue.refused.items()]
    for table in selected:
        engine = catalogue.storage.get(table, "InnoDB").lower()
        if engine in _WITHOUT_VERSIONS:
            text = f"{table} is {engine}: it is locked while a chunk is read, and has no transactions"
            out.append(_warning("STORAGE_ENGINE", text, f"ALTER TABLE {table} ENGINE = InnoDB", table))
        schema = catalogue.tables.get(table)
        if load and schema is not None and not schema.key:
            text = f"{table} has no primary key: it is loaded in one piece, and changes are found by all columns"
            out.append(_warning("NO_KEY", text, f"ALTER TABLE {table} ADD PRIMARY KEY (…)", table))
    return out
