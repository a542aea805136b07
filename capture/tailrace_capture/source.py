"""The Source contract: what an engine must offer so that the capture core can load and stream it exactly.

The core (`service.py`, `feed.py`, `snapshot.py`, `publish.py`) knows no engine; an engine knows no log. They meet here:

- An engine *streams*: `Source.stream` reads the source's log from a position, in the thread it is called in, and tells
  the `Feed` what it meets, in the order of the source's log: `begin` a transaction, its events (appended by the
  engine's codec to the tables' `TopicBuffer`s), truncates and schema changes at their place, `commit`; `idle` when
  the source says that nothing is left up to a position; `tick` at least every few milliseconds.
- While a table is being loaded (`buffer.judged`), the codec offers every event, with the key it concerns, to
  `Feed.decide`, which may wait for a chunk, and drops the event when the answer is no. A dropped event still counts in
  total_order (rule A2).
- An engine *reads chunks*: a `SnapshotReader` takes a snapshot while the stream stands still and then reads one key
  range under it as events of op `r`.
- Nothing is skipped in silence: what an engine does not understand is a `TableStopError` handed to
  `Feed.stop_table` (the table stops, the rest goes on) or, where no table can be named, a `StopError` raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tailrace_log.frames import TopicBuffer
from tailrace_log.log import OpenTransaction
from tailrace_schemas.errors import Finding
from tailrace_schemas.position import Position
from tailrace_schemas.table import Engine, TableId, TableSchema

if TYPE_CHECKING:
    from tailrace_capture.feed import Feed


CHUNK_BYTES = 32 << 20  # a chunk is planned to stay below this, since a reader holds it whole
FEWEST_ROWS = 20


def fitting_rows(chunk_rows: int, row_bytes: float) -> int:
    """How many rows a chunk of at most `chunk_rows` is to have where a row takes so many bytes on average."""
    return max(min(chunk_rows, FEWEST_ROWS), min(chunk_rows, int(CHUNK_BYTES / max(1.0, row_bytes))))


@dataclass(slots=True, eq=False)
class TableFeed:
    """One captured table as it is now: its schema, its registered schema ids, and the buffer its records go to.

    A schema change makes a new TableFeed with the same buffer. `key_id` is 0 for a keyless table. `layout`: the
    engine's own note about the table as `schema` describes it; it is kept in the log with the schema.
    """

    schema: TableSchema
    topic: str
    key_id: int
    value_id: int
    buffer: TopicBuffer
    layout: str = ""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """From one description of a table to the next. `renamed`: old column name → new, None where the engine cannot tell;
    `defaults`: added column → text of the value that rows which exist hold, where that is not NULL; `reload`: the table
    starts again, since what became of its rows is told by no event."""

    schema: TableSchema
    layout: str = ""
    renamed: Mapping[str, str] | None = None
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])
    reload: bool = False


@dataclass(frozen=True, slots=True)
class Transaction:
    """A source transaction in the stream. `id` is what events carry (design §4) and is the same after a re-read;
    `ref` is what the engine's snapshots understand in `Snapshot.sees`."""

    id: str
    commit_ms: int
    ref: object


@dataclass(frozen=True, slots=True)
class Resume:
    """Where the stream goes on: everything up to `position` is in the log, and so are the first `open.ordinals` events
    of the transaction `open.id`, if one is open. That transaction comes again whole."""

    position: Position
    open: OpenTransaction | None


class Snapshot(Protocol):
    """A read view S whose visibility is known exactly."""

    @property
    def past(self) -> Position:
        """A place in the source's log read just after S was taken: a transaction not contained in it is never
        visible in S, so S can be forgotten there (rule B11)."""

    def sees(self, ref: object) -> bool:
        """Whether the rows of S hold the effects of a streamed transaction (`Transaction.ref`)."""

    def to_text(self) -> str:
        """For the commit record; `Source.snapshot_from_text` gives an equal Snapshot back."""


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """Rows of a chunk, or a slice of them, as records by partition: (partition, count, frames), and how many."""

    parts: list[tuple[int, int, bytes]]
    rows: int


class TableMovedError(Exception):
    """The table was rewritten, re-created or altered under the snapshot: the chunk counts for nothing and the table
    starts again (rule B9). `schema` and `layout`: its description now, None when it is gone."""

    def __init__(self, schema: TableSchema | None, layout: str = "") -> None:
        super().__init__("table moved")
        self.schema, self.layout = schema, layout


class SnapshotReader(Protocol):
    """One connection that reads chunks; used by one thread. Any call may raise SourceUnavailableError."""

    def begin(self, tables: Sequence[TableFeed]) -> Snapshot:
        """Take a snapshot for one chunk of a table, or for all of several tables that are read together. Called while
        the stream stands still: be quick (milliseconds).

        Raises:
            RetryableError: not now (a lock was not to be had); the core tries again later.
        """

    def read(
        self, table: TableFeed, low: Sequence[str] | None, high: Sequence[str] | None, chunk: str
    ) -> Iterator[ChunkRows]:
        """The rows with low <= key < high (None: open end) as op `r` events, under the snapshot of `begin`, in slices
        of a few MB. `chunk` names (chunk, attempt) and goes into `source.sequence` (rule D8). The stream runs
        meanwhile. The rows count only when the iteration ends without an error.

        Raises:
            TableMovedError: see there; at the latest at the end of the iteration.
        """

    def end(self) -> None:
        """Give the snapshot up."""

    def abort(self) -> None:
        """From another thread: a `read` that is going on ends soon, with an error or as if nothing had happened. Only
        `close` may follow that error. Raises nothing."""

    def close(self) -> None: ...


class KeyOrder(Protocol):
    """Finds the chunk of a key (rule B12)."""

    def chunk_of(self, key: bytes) -> int:
        """Index of the chunk that holds the key of an event: the number of bounds that are <= it. `key` is the
        record key as the codec writes it (5-byte header, then Avro)."""


class Source(Protocol):
    """One source database. Constructed without I/O; every method may raise SourceUnavailableError."""

    engine: Engine
    logs_cascades: bool  # the stream carries what foreign-key actions do to child rows (rule D7)

    def preflight(self, load: bool, stream: bool) -> list[Finding]:
        """All findings at once, each with its remedy."""

    def identity(self) -> dict[str, str]:
        """What makes this source itself (rule A3): system_identifier and timeline, server_uuid, … Connections made from
        now on until `close` lead to the same server, or are refused with SourceUnavailableError."""

    def tables(self) -> list[TableSchema]:
        """The selected tables as the catalogue describes them now."""

    def layout(self, table: TableId) -> str:
        """The engine's note about a table as `tables` described it last (`TableFeed.layout`)."""

    def prepare(self, start: str | None) -> Position:
        """At the very first start, where changes are captured: make what streaming needs (slot, publication) and return
        where the stream begins.
        `start`: None or `now`, or the text form of a position (only with mode cdc).

        Raises:
            StopError: it exists already and belongs to something else.
        """

    def check(self, resume: Resume, before: dict[str, str], pasts: list[Position]) -> None:
        """Before resuming: does this source still hold what comes after `resume.position`? `before` is the identity of
        the last commit record, `pasts` the `Snapshot.past` of snapshots not forgotten (rule A3).

        Raises:
            PositionLostError: LOG_LOST, SLOT_LOST: history is gone.
            StopError: SOURCE_BEHIND, SLOT_RECREATED, WRONG_SOURCE. RefusedError: STANDBY.
        """

    def joined(self) -> frozenset[TableId]:
        """After `prepare` or `check`: selected tables whose changes were not streamed until now (they were missing from
        the publication). Those that the log knows already start again."""

    def stream(self, feed: Feed, resume: Resume) -> None:
        """Stream until `feed.stopping`; then return. Acknowledges `feed.durable` to the source, and nothing else
        (rule A4). Never reconnects by itself.

        Raises:
            SourceUnavailableError: the caller starts again from the last commit record.
        """

    def accepts(self, snapshot: Snapshot) -> bool:
        """Rules B2 and B4: does S see everything that the stream has passed or begun? Called while the stream stands
        still, from another thread."""

    def reader(self) -> SnapshotReader:
        """A new reader; one per load thread."""

    def consistent_readers(self, count: int) -> list[SnapshotReader]:
        """At most `count` readers that all show the database at one and the same moment, for mode full-load: `begin`
        gives each time that one snapshot. Needs neither slot nor binlog."""

    def plan(self, table: TableSchema, chunk_rows: int) -> list[list[str]]:
        """Bounds that cut the table's key space into chunks of about `chunk_rows` rows: n-1 ascending key values, each
        the texts of all key columns, for n chunks. Empty for a keyless or small table."""

    def key_order(self, table: TableFeed, bounds: list[list[str]]) -> KeyOrder: ...

    def snapshot_from_text(self, text: str) -> Snapshot: ...

    def parse_position(self, text: str) -> Position: ...

    def current_position(self) -> Position:
        """The end of the source's log now (`--until-current`)."""

    def estimate_rows(self, table: TableId) -> int:
        """For progress only: the server's own estimate."""

    def drop(self) -> list[str]:
        """Remove what `prepare` made; returns a sentence for each thing removed. Repeating it is harmless."""

    def close(self) -> None: ...
