"""The Sink contract: what a target must promise so that nothing is lost, doubled or reordered in it.

A sink receives *batches*: whole log transactions, joined, cut so that no source transaction is split (rules D2, D3).
It applies a batch together with its progress in one target transaction, and takes the progress row first, by
compare-and-set: whoever holds an older one is fenced there and has changed nothing (rule D1). Progress lives in the
target only; what the log knows of it is a hint for retention.

To add a sink: a module with `open_sink(url, config) -> Sink`, an entry point in the group `tailrace.sinks`, and the
suite of `conformance.py` run against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tailrace_log.log import DeadLetter, Marker
from tailrace_schemas.errors import ConfigError, Finding
from tailrace_schemas.table import TableId, TableSchema


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """What a sink must know besides its URL. Words and defaults: pipeline.yaml, `sinks:`.

    `name` is the sink's name within the pipeline, `commit_topic` and `log_id` tell the log it reads. `namespaces` maps
    a source namespace to the target's; a namespace not in it keeps its name. `loads`: rows that the source holds will
    come, not its changes alone. `max_dead_letters`: those neither replayed nor discarded; `max_dead_letter_share`: of
    the events of a process, 0 to 1.
    """

    pipeline: str
    name: str
    commit_topic: str
    log_id: str
    namespaces: Mapping[str, str] = field(default_factory=dict)
    on_row_error: Literal["stop", "dead_letter"] = "stop"
    schema_changes: Literal["evolve", "stop", "ignore-unsafe"] = "evolve"
    zero_dates: Literal["stop", "null"] = "stop"
    cascades: Literal["emulate", "refuse"] = "emulate"
    target_triggers: Literal["allow", "refuse"] = "allow"
    consistency: Literal["transaction", "key"] = "transaction"
    connections: int = 1
    max_dead_letters: int | None = 10_000
    max_dead_letter_share: float | None = None
    connect_timeout: float = 10.0
    loads: bool = True

    def check(self) -> None:
        """
        Raises:
            ConfigError: options that exclude each other.
        """
        if self.connections > 1 and self.consistency == "transaction":
            raise ConfigError(
                f"sink {self.name}: {self.connections} connections cannot keep source transactions whole",
                detail="consistency transaction commits each of them in one target transaction, on one connection",
                hint="connections: 1, or consistency: key, which promises the order of each key only",
            )

    def target_of(self, table: TableId) -> TableId:
        """Where a source table's rows go."""
        return TableId(self.namespaces.get(table.schema, table.schema), table.name)


@dataclass(frozen=True, slots=True)
class Progress:
    """What the target holds: every commit record below `next_seq`. `position` is the text form of a source position,
    empty before the first batch. `epoch` grows with every process that takes the sink over. `set_aside`: events
    set aside so far; `letters`: those that the log may not have yet; `stale_keys`: their rows wait for a later one."""

    next_seq: int
    position: str
    epoch: int
    letters: tuple[DeadLetter, ...] = ()
    set_aside: int = 0
    stale_keys: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one topic-partition that lie together in one log transaction, at the offsets from `first` on.
    `loaded`: rows of a snapshot chunk."""

    seq: int
    partition: int
    count: int
    frames: bytes
    loaded: bool = False
    first: int = 0


@dataclass(frozen=True, slots=True)
class MarkerStep(Marker):
    """A marker and its place: the `number`-th (0, 1 …) of commit record `seq`."""

    seq: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Pieces of one topic with no marker between them. Pieces of one partition are in order."""

    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        return sum(piece.count for piece in self.pieces)


Step = Rows | MarkerStep


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a batch that fits in memory: topic → steps in order. Topics do not depend on each other, but for
    foreign keys whose actions the sink has to execute (rule D7)."""

    steps: Mapping[str, tuple[Step, ...]]

    @property
    def rows(self) -> int:
        return sum(step.count for steps in self.steps.values() for step in steps if isinstance(step, Rows))

    @property
    def bytes(self) -> int:
        return sum(
            len(piece.frames)
            for steps in self.steps.values()
            for step in steps
            if isinstance(step, Rows)
            for piece in step.pieces
        )


class SinkBatch(Protocol):
    """Commit records `first_seq` to `last_seq`, after which the target stands at `position`.

    `consistent`: the last record says that the target then is as the source was at `position`. `loading`: not all of
    them do; a row may meet another with its unique value, which a later record takes away (see `parked`).
    """

    first_seq: int
    last_seq: int
    position: str
    consistent: bool
    loading: bool

    def slices(self) -> Iterator[Slice]:
        """The content, in order; may be asked for again. Reads the log while it runs.

        Raises:
            LogUnavailableError, StopError: as `LogReader.read`.
        """

    def schema(self, schema_id: int, /) -> TableSchema:
        """The table a registered value schema describes.

        Raises:
            StopError: unknown id, or not written by Tailrace (code UNKNOWN_SCHEMA).
        """


DdlAction = Literal["applied", "left out"]


@dataclass(slots=True)
class TableCounts:
    """Events of one table: `loaded` from snapshot chunks, the others from the stream. `last_ddl` was `applied` or, by
    `schema_changes: ignore-unsafe`, `left out`: `last_action`."""

    loaded: int = 0
    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    ddls: int = 0
    last_ddl: str = ""
    last_action: DdlAction = "applied"

    def changed(self, statement: str, action: DdlAction) -> None:
        """A statement of a schema change."""
        self.ddls += action == "applied"
        self.last_ddl, self.last_action = statement, action

    def count(self, op: int) -> None:
        """One event, by the letter of its operation."""
        match chr(op):
            case "r":
                self.loaded += 1
            case "c":
                self.inserts += 1
            case "u":
                self.updates += 1
            case _:
                self.deletes += 1

    def add(self, other: TableCounts) -> None:
        self.loaded += other.loaded
        self.inserts += other.inserts
        self.updates += other.updates
        self.deletes += other.deletes
        self.ddls += other.ddls
        if other.last_ddl:
            self.last_ddl, self.last_action = other.last_ddl, other.last_action


@dataclass(slots=True)
class Applied:
    """What one `write` did: source table → counts. `letters`: the events it set aside, which no table counts;
    `stale_keys`: how many more keys are stale since (see `Progress`), or fewer."""

    tables: dict[TableId, TableCounts] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    stale_keys: int = 0

    def table(self, table: TableId) -> TableCounts:
        return self.tables.setdefault(table, TableCounts())

    def add(self, other: Applied) -> None:
        for table, counts in other.tables.items():
            self.table(table).add(counts)
        self.letters += other.letters
        self.stale_keys += other.stale_keys


class Sink(Protocol):
    """One target. Not thread-safe: one thread uses it."""

    def open(self, *, take_over: bool) -> Progress:
        """Connect (again), make what progress needs, and read it. With `take_over` the epoch grows, so that an
        older process of the same sink is fenced at its next batch.

        Raises:
            TargetUnavailableError: try again.
            StopError: progress belongs to another log (code FOREIGN_LOG).
            ConfigError: wrong password, missing grant, unknown database.
        """

    def write(self, batch: SinkBatch) -> Applied:
        """Apply `batch` so that it survives a crash of the target, then return.

        Events of one key are in commit order. A batch holds whole source transactions, may be read in slices and is
        committed once. The same batch may come again after a crash or `OutcomeUnknownError`: applying it
        twice must equal applying it once.

        Raises:
            TargetUnavailableError: nothing was applied; the caller opens again and retries.
            FencedError: nothing was applied; the caller opens again and goes on from there.
            OutcomeUnknownError: it may have been applied; the caller opens again and goes on from there.
            RowRejectedError, DecodeError, ConversionError: nothing was applied; the table and column are named. Under
                `on_row_error: dead_letter` only where the event cannot be set aside (see `dead_letter.py`).
            StopError: nothing was applied; a person is needed.
        """

    def noted(self, letters: Sequence[DeadLetter]) -> None:
        """The log has them; `open` need not give them again.

        Raises:
            TargetUnavailableError: as `write`.
        """

    def findings(self, schemas: list[TableSchema]) -> list[Finding]:
        """Preflight: everything that would stop or weaken this sink, given the tables that will come.

        Raises:
            TargetUnavailableError, ConfigError: as `open`.
        """

    def close(self) -> None: ...
