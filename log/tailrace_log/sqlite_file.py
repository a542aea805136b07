"""The SQLite file of an embedded log: made whole or not at all, opened with the settings the log relies on, and its
errors given our names.

The format is said in the file itself: `application_id` tells a log from any other SQLite file, `user_version` is the
number of the format. WAL lets other processes read while one writes; `synchronous=FULL` makes a commit survive a power
cut (SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous"). Local disks only: WAL needs shared memory,
which network file systems do not give.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from tailrace_schemas.errors import ConfigError, LogUnavailableError, StopError, TailraceError

APPLICATION_ID = 0x54524C47  # "TRLG"
FORMAT = 1
BUSY_SECONDS = 30.0
WAL_CHECKPOINT_PAGES = 4000  # 16 MB: fewer checkpoints than SQLite's 4 MB while a load runs
WAL_KEEP_BYTES = 64 << 20

SCHEMA = """
create table log(
  id integer primary key check (id = 1),
  log_id text not null, prefix text not null, pipeline text,
  epoch integer not null default 0,     -- raised by every open(): an older writer is fenced
  trimmed integer not null default -1   -- commit sequence up to which batches may be gone
);
create table topics(id integer primary key, name text not null unique, partitions integer not null);
create table offsets(
  topic integer not null references topics, partition integer not null, next integer not null,
  primary key (topic, partition)
) without rowid;
create table commits(seq integer primary key, load_full integer not null, record text not null);
create index load_full on commits(seq) where load_full;
create table batches(
  id integer primary key,               -- commit sequence << 20 | number of the part inside it
  topic integer not null, partition integer not null, first integer not null, count integer not null,
  counted integer not null, codec integer not null, frames blob not null
);
create table sinks(name text primary key, applied integer not null) without rowid;
create table schemas(id integer primary key autoincrement, schema text not null unique);
create table subjects(
  subject text not null, schema_id integer not null, primary key (subject, schema_id)
) without rowid;
"""


def create(path: Path, prefix: str) -> None:
    """Make an empty log at `path` unless something is there. Two processes may try at once: one file wins, whole."""
    if path.exists():
        return
    new = path.with_name(f"{path.name}.new-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # rows of the source: for the owner only
        try:
            _fill(new, path, prefix)
        finally:
            new.unlink()
    except OSError as error:
        raise ConfigError(
            f"could not make the log {path}",
            code="LOG_PATH",
            detail=str(error),
            hint="name a folder on a local disk in which this user may write",
        ) from error


def _fill(new: Path, path: Path, prefix: str) -> None:
    with errors(path), closing(sqlite3.connect(new, isolation_level=None)) as connection:
        _lay_out(connection, prefix)
    _sync(new)
    # Unlike rename, link never replaces a log that another process has just made.
    with suppress(FileExistsError):
        os.link(new, path)
    _sync(path.parent)


def _lay_out(connection: sqlite3.Connection, prefix: str) -> None:
    # Incremental: pages of trimmed batches can be given back without copying the whole file; must precede any table.
    connection.execute("pragma auto_vacuum = incremental")
    connection.execute("pragma journal_mode = wal")
    connection.executescript(f"begin; {SCHEMA} commit;")
    connection.execute("insert into log(id, log_id, prefix) values (1, ?, ?)", (str(uuid.uuid4()), prefix))
    connection.execute(f"pragma user_version = {FORMAT}")
    connection.execute(f"pragma application_id = {APPLICATION_ID}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect(path: Path, role: Literal["writer", "reader"]) -> sqlite3.Connection:
    """A connection in autocommit mode; transactions are begun by hand. Only the writer moves the WAL into the file and
    waits for the disk: a reader's only writes are hints and schemas, which the writer's next commit makes durable."""
    with errors(path):
        # `rw`: SQLite itself must never make an empty file where a log has been removed.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=BUSY_SECONDS,
            check_same_thread=False,
            cached_statements=64,
        )
        try:
            for pragma in _pragmas(role):
                connection.execute(f"pragma {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
    return connection


def _pragmas(role: Literal["writer", "reader"]) -> list[str]:
    writes = role == "writer"
    return [
        f"synchronous = {'full' if writes else 'normal'}",
        f"wal_autocheckpoint = {WAL_CHECKPOINT_PAGES if writes else 0}",
        f"journal_size_limit = {WAL_KEEP_BYTES}",
        "secure_delete = off",  # some builds overwrite deleted pages by default: every trimmed byte written once more
        "foreign_keys = off",
    ]


def check(connection: sqlite3.Connection, path: Path, prefix: str) -> str:
    """The log's id, when the file is a log of this format and prefix.

    Raises:
        ConfigError: it is another kind of file (LOG_FOREIGN), another format (LOG_VERSION) or another prefix.
        StopError: it is damaged (LOG_DAMAGED).
    """
    with errors(path):
        if connection.execute("pragma application_id").fetchone()[0] != APPLICATION_ID:
            raise ConfigError(
                f"{path} is not a Tailrace log",
                code="LOG_FOREIGN",
                hint="name another path for the log, or move that file",
            )
        if (version := connection.execute("pragma user_version").fetchone()[0]) != FORMAT:
            raise ConfigError(
                f"{path} is a log of format {version}, this version reads {FORMAT}",
                code="LOG_VERSION",
                hint="use the version of Tailrace that wrote it, or a new state folder and a new load",
            )
        log_id, found = connection.execute("select log_id, prefix from log").fetchone()
    if found != prefix:
        raise ConfigError(
            f"{path} holds topics that begin with {found}, not {prefix}",
            code="PREFIX_TAKEN",
            hint=f"use the pipeline's old name, or another file than {path}",
        )
    return str(log_id)


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Give errors of SQLite our names; the driver's error is the cause."""
    try:
        yield
    except sqlite3.Error as error:
        raise named(error, path) from error


def is_full(error: sqlite3.Error) -> bool:
    return primary_code(error) == sqlite3.SQLITE_FULL


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; -1 where Python raised the error itself."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else code


_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN}


def named(error: sqlite3.Error, path: Path) -> TailraceError:
    code, detail = primary_code(error), f"SQLite: {error}"
    if code == sqlite3.SQLITE_FULL:
        return LogUnavailableError(
            f"the disk or the size limit of the log {path} is full",
            code="LOG_FULL",
            detail=detail,
            hint="free space there; the pipeline goes on by itself, also when a sink has caught up",
        )
    if code in _BUSY:
        return LogUnavailableError(f"the log {path} is busy", detail=detail)
    if code == sqlite3.SQLITE_IOERR:
        return LogUnavailableError(f"the log {path} could not be read or written", detail=detail)
    if code in _REFUSED:
        return ConfigError(
            f"the log {path} cannot be opened or written",
            code="LOG_PATH",
            detail=detail,
            hint="let this user read and write the file and its folder",
        )
    return StopError(
        f"the log {path} is damaged",
        code="LOG_DAMAGED",
        detail=detail,
        hint="restore the file, or begin with a new state folder and a new load",
    )
