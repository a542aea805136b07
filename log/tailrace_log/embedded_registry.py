"""Schema registry inside the embedded log's file: ids as in Confluent's registry, stable for the life of the file."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from tailrace_log import sqlite_file
from tailrace_schemas.errors import StopError


class EmbeddedRegistry:
    """One text has one id under all subjects. Threads may share it. Ids never change: those seen stay in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # As the writer: an id must be on disk before an event that carries it is read by anyone.
        self._connection = sqlite_file.connect(path, "writer")
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, str] = {}

    def register(self, subject: str, schema: str) -> int:
        with self._lock:
            if (subject, schema) not in self._ids:
                with sqlite_file.errors(self._path):
                    self._ids[subject, schema] = self._stored(subject, schema) or self._store(subject, schema)
            return self._ids[subject, schema]

    def schema(self, schema_id: int) -> str:
        with self._lock:
            if schema_id not in self._schemas:
                with sqlite_file.errors(self._path):
                    row = self._connection.execute("select schema from schemas where id = ?", (schema_id,)).fetchone()
                if row is None:
                    raise StopError(
                        f"schema {schema_id} is not in the registry of {self._path}",
                        code="UNKNOWN_SCHEMA",
                        hint="restore the file, or begin with a new state folder and a new load",
                    )
                self._schemas[schema_id] = row[0]
            return self._schemas[schema_id]

    def close(self) -> None:
        self._connection.close()

    def _stored(self, subject: str, schema: str) -> int | None:
        row = self._connection.execute(
            "select id from schemas join subjects on schema_id = id where subject = ? and schema = ?", (subject, schema)
        ).fetchone()
        return None if row is None else int(row[0])

    def _store(self, subject: str, schema: str) -> int:
        execute = self._connection.execute
        execute("begin immediate")
        try:
            execute("insert into schemas(schema) values (?) on conflict do nothing", (schema,))
            schema_id = int(execute("select id from schemas where schema = ?", (schema,)).fetchone()[0])
            execute("insert into subjects values (?, ?) on conflict do nothing", (subject, schema_id))
            execute("commit")
        except sqlite3.Error:
            if self._connection.in_transaction:
                execute("rollback")
            raise
        return schema_id
