"""Connections to Postgres: plain SQL sessions with pinned settings, and the replication stream over COPY_BOTH.

psycopg has no replication API, so the stream speaks libpq through `psycopg.pq`.
Protocol: PostgreSQL manual, "Streaming Replication Protocol".
"""

from __future__ import annotations

import select
import struct
import time

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from tailrace_capture.postgres.catalog import Rows
from tailrace_capture.postgres.stop import NO_TEXT, no_text_in_stream
from tailrace_schemas.errors import LOAD_AGAIN, PositionLostError, RefusedError, SourceUnavailableError, StopError
from tailrace_schemas.position import format_lsn, parse_lsn
from tailrace_schemas.refused import postgres_refusal
from tailrace_schemas.uri import DatabaseUrl, libpq_parameters

# The text forms that values.py reads; the session pins them, whatever the role or database says.
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO,YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "xmloption": "content",
}
CONNECT_SECONDS = 10
KEEPALIVES = {"keepalives": "1", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}
POSTGRES_EPOCH_MICROS = 946_684_800_000_000


def parameters(url: DatabaseUrl, application: str, **more: str) -> dict[str, str]:
    """libpq keywords of a connection of ours."""
    options = " ".join(f"-c {name}={value.replace(',', chr(92) + ',')}" for name, value in SESSION.items())
    return {
        **libpq_parameters(url),
        **KEEPALIVES,
        "connect_timeout": str(CONNECT_SECONDS),
        "application_name": application,
        "options": options,
        **more,
    }


def connect(url: DatabaseUrl, application: str) -> Rows:
    """An autocommit SQL session.

    Raises:
        SourceUnavailableError: the server cannot be reached. RefusedError: it refuses the login.
    """
    try:
        return psycopg.connect("", autocommit=True, prepare_threshold=None, **parameters(url, application))  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        raise connect_error(str(error), url) from error


def connect_error(text: str, url: DatabaseUrl) -> SourceUnavailableError | RefusedError:
    """`text`: libpq's, of a connection that could not be made."""
    refused = postgres_refusal(text, "source", url.place)
    unreachable = f"the source {url.place} cannot be reached"
    return refused or SourceUnavailableError(unreachable, detail=_first_line(text))


def unavailable(error: psycopg.Error) -> SourceUnavailableError:
    return SourceUnavailableError("the source database cannot be reached", detail=_first_line(str(error)))


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "connection lost"


class ReplicationStream:
    """START_REPLICATION on one slot. `get` is what the codec's pump calls."""

    def __init__(self, url: DatabaseUrl, application: str) -> None:
        """
        Raises:
            SourceUnavailableError, RefusedError: as `connect`.
        """
        words = parameters(url, application, replication="database")
        conninfo = make_conninfo("", **words)
        self._connection = pq.PGconn.connect(conninfo.encode())
        if self._connection.status != pq.ConnStatus.OK:
            raise connect_error(self._message(), url)
        self.get = self._connection.get_copy_data

    def _message(self) -> str:
        return self._connection.error_message.decode("utf-8", "replace")

    def ask(self, command: str) -> tuple[str, ...]:
        """The first row of a replication command or an SQL statement, before `start`.

        Raises:
            SourceUnavailableError: the connection is gone, or the server does not answer that.
        """
        result = self._connection.exec_(command.encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise unavailable(psycopg.errors.error_from_result(result))
        return tuple((result.get_value(0, column) or b"").decode() for column in range(result.nfields))

    def make_temporary_slot(self, slot: str) -> int:
        """A slot that lives as long as this connection; returns the LSN from which it streams. Waits for the
        transactions that run now.

        Raises:
            psycopg.Error: the server refuses it, or the connection is gone.
        """
        command = f"SELECT lsn FROM pg_create_logical_replication_slot('{slot}', 'pgoutput', true)"
        result = self._connection.exec_(command.encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise psycopg.errors.error_from_result(result)
        return parse_lsn((result.get_value(0, 0) or b"").decode())

    def start(self, slot: str, lsn: int, publication: str, *, messages: bool = False) -> None:
        """Ask for everything that ends after `lsn`. Text format, in-progress transactions streamed (protocol 2).
        `messages`: logical messages too.

        Raises:
            SourceUnavailableError: the slot is in use, or the server is not ready.
            PositionLostError: the slot's WAL is gone.
        """
        name = publication.replace('"', '""').replace("'", "''")
        more = ", messages 'true'" if messages else ""
        command = (
            f'START_REPLICATION SLOT "{slot}" LOGICAL {format_lsn(lsn)} '
            f"(proto_version '2', streaming 'on', publication_names '\"{name}\"'{more})"
        )
        result = self._connection.exec_(command.encode())
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise stream_error(result.error_message.decode("utf-8", "replace"), slot)
        self._connection.nonblocking = 1
        self._slot = slot
        self._poll = select.poll()
        self._poll.register(self._connection.socket, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Until the server sends something, or the time is over; then take in what is there.

        Raises:
            SourceUnavailableError: the connection is gone.
        """
        if not self._poll.poll(seconds * 1000):
            return
        try:
            self._connection.consume_input()
        except psycopg.OperationalError as error:
            raise unavailable(error) from error

    def feedback(self, lsn: int) -> None:
        """Standby status update: everything that ends at or before `lsn` is durable here (rule A4)."""
        now = time.time_ns() // 1000 - POSTGRES_EPOCH_MICROS
        try:
            self._connection.put_copy_data(struct.pack(">cqqqqb", b"r", lsn, lsn, lsn, now, 0))
            self._connection.flush()
        except psycopg.OperationalError as error:
            raise unavailable(error) from error

    def ended(self) -> SourceUnavailableError | PositionLostError | StopError:
        """Why the server has ended the stream."""
        result = self._connection.get_result()
        text = result.error_message.decode("utf-8", "replace") if result is not None else self._message()
        state = None if result is None else result.error_field(pq.DiagnosticField.SQLSTATE)
        if state is not None and state.decode() in NO_TEXT:
            return no_text_in_stream(_first_line(text))
        return stream_error(text, self._slot)

    def close(self) -> None:
        self._connection.finish()


def stream_error(text: str, slot: str) -> SourceUnavailableError | PositionLostError | StopError:
    """The server's words as one of our errors (messages of src/backend/replication/slot.c and walsender.c)."""
    line = _first_line(text)
    if "can no longer get changes" in text or "has been removed" in text or "invalidated" in text:
        return PositionLostError(
            f"replication slot {slot} has lost WAL it needs",
            code="SLOT_LOST",
            detail=line,
            hint=f"raise max_slot_wal_keep_size; {LOAD_AGAIN}",
        )
    if f'replication slot "{slot}" does not exist' in text:
        return PositionLostError(f"replication slot {slot} is gone", code="SLOT_LOST", detail=line, hint=LOAD_AGAIN)
    return SourceUnavailableError("the replication stream has ended", detail=line)
