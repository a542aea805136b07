"""The event log in one SQLite file, for pipelines on one machine.

A log transaction is one SQLite transaction: rows of `batches` (a batch of records each, compressed), one row of
`commits`, the next offsets, and the trimming of what every sink has applied (rule C5). Readers in any process see all
of it or nothing. The tables are in `sqlite_file.SCHEMA`.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple
from pathlib import Path

import zstandard

from tailrace_log import sqlite_file
from tailrace_log.embedded_registry import EmbeddedRegistry
from tailrace_log.log import Batch, CommitRecord, DeadLetter, SchemaRegistry, announced
from tailrace_schemas.errors import (
    LOAD_AGAIN,
    FencedError,
    InvariantError,
    LogUnavailableError,
    OutcomeUnknownError,
    PositionLostError,
    StopError,
)
from tailrace_schemas.failpoint import failpoint

log = logging.getLogger(__name__)

RAW, ZSTD = 0, 1  # column `codec`
SMALLEST_COMPRESSED = 200  # below this zstd saves less than its frame costs
PART_BYTES = 128 << 20  # SQLite holds at most 1 GB in one value; a larger batch lies in several rows
PARTS_BITS = 20
RESERVE_BYTES = 32 << 20
TRIM_ROWS = 64
VACUUM_PAGES = 1024
SPARE_PAGES = 16384  # 64 MB of free pages stay in the file for reuse
PROGRESS_SECONDS = 0.2


class EmbeddedLog:
    """The log at `path`, made when nothing is there.

    `partitions`: of the topics of a new log; one that has topics keeps their number, because a key must stay in its
    partition.

    `max_bytes` bounds the file (not its WAL of at most some 64 MB): a writer that meets it waits for the sinks.
    `reserve_bytes`: with less than this free on the disk nothing is written any more, so that sinks can still note
    their progress and trimming can free space.

    Raises:
        ConfigError: the path cannot be used or holds something else (LOG_PATH, LOG_FOREIGN, LOG_VERSION,
            PREFIX_TAKEN).
        StopError: the file is damaged (LOG_DAMAGED).
        LogUnavailableError: try again.
    """

    def __init__(
        self,
        path: Path,
        prefix: str,
        partitions: int = 1,
        *,
        max_bytes: int | None = None,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self.path = path
        self.prefix = prefix
        self.max_bytes = max_bytes
        self.reserve_bytes = reserve_bytes
        sqlite_file.create(path, prefix)
        connection = sqlite_file.connect(path, "reader")
        try:
            self.log_id = sqlite_file.check(connection, path, prefix)
            (found,) = connection.execute("select max(partitions) from topics").fetchone()
        finally:
            connection.close()
        self.partitions = int(found or partitions)
        self._registry = EmbeddedRegistry(path)
        self.registry: SchemaRegistry = self._registry

    def writer(self, pipeline: str, sinks: list[str]) -> EmbeddedWriter:
        return EmbeddedWriter(self, pipeline, sinks)

    def reader(self) -> EmbeddedReader:
        return EmbeddedReader(self)

    def size_bytes(self) -> int:
        """Bytes on disk, the WAL included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        self._registry.close()


class EmbeddedWriter:
    """Every number it keeps in memory holds only while its epoch does, which each transaction checks first."""

    def __init__(self, event_log: EmbeddedLog, pipeline: str, sinks: list[str]) -> None:
        self._log, self._path, self._pipeline, self._sinks = event_log, event_log.path, pipeline, sinks
        self._connection = sqlite_file.connect(self._path, "writer")
        self._inode = self._path.stat().st_ino
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._epoch: int | None = None
        self._last_seq = -1
        self._topics: dict[str, tuple[int, int]] = {}
        self._next: dict[tuple[str, int], int] = {}
        if event_log.max_bytes is not None:
            page_size = self._connection.execute("pragma page_size").fetchone()[0]
            self._connection.execute(f"pragma max_page_count = {max(1, event_log.max_bytes // page_size)}")

    def open(self) -> list[CommitRecord]:
        self._epoch = None
        with sqlite_file.errors(self._path):
            with self._transaction():
                epoch = self._take_over()
            self._topics = {
                name: (topic, count)
                for topic, name, count in self._connection.execute("select id, name, partitions from topics")
            }
            self._next = {
                (name, partition): following
                for name, partition, following in self._connection.execute(
                    "select name, partition, next from offsets join topics on topic = id"
                )
            }
            rows = self._connection.execute(
                "select record from commits where seq >= coalesce((select max(seq) from commits where load_full), 0)"
                " order by seq"
            ).fetchall()
        records = [_record(row[0], self._path) for row in rows]
        self._last_seq = records[-1].seq if records else -1
        self._epoch = epoch
        return records

    def _take_over(self) -> int:
        execute = self._connection.execute
        holder, epoch = execute("select pipeline, epoch from log").fetchone()
        if holder not in (None, self._pipeline):
            raise StopError(
                f"the log {self._path} belongs to pipeline {holder}",
                code="PREFIX_TAKEN",
                hint=f"give this pipeline another log, or remove {holder} with: tailrace drop --name {holder}",
            )
        execute("update log set pipeline = ?, epoch = ?", (self._pipeline, epoch + 1))
        # The writer's list is the truth: a sink that is not in it any more must not hold the log for ever.
        for (name,) in execute("select name from sinks").fetchall():
            if name not in self._sinks:
                execute("delete from sinks where name = ?", (name,))
        for name in self._sinks:
            execute("insert into sinks values (?, -1) on conflict do nothing", (name,))
        return int(epoch) + 1

    def ensure_topics(self, partitions: dict[str, int]) -> None:
        for topic, count in partitions.items():
            if (known := self._topics.get(topic)) and known[1] != count:
                raise StopError(
                    f"topic {topic} has {known[1]} partitions, not {count}",
                    code="PARTITIONS_CHANGED",
                    hint=f"set partitions back to {known[1]}: a key must stay in its partition",
                )
        new = [(topic, count) for topic, count in partitions.items() if topic not in self._topics]
        if not new:
            return
        with sqlite_file.errors(self._path), self._transaction():
            self._check_epoch()
            added = {
                topic: (int(self._insert("insert into topics(name, partitions) values (?, ?)", (topic, count))), count)
                for topic, count in new
            }
        self._topics |= added

    def _insert(self, statement: str, values: tuple[object, ...]) -> int:
        row = self._connection.execute(statement, values).lastrowid
        assert row is not None
        return row

    def write(self, batches: list[Batch], record: CommitRecord) -> CommitRecord:
        if self._epoch is None:
            raise InvariantError("write without open: the outcome of the last log transaction is not known")
        if record.seq != self._last_seq + 1:
            raise InvariantError(f"commit record {record.seq} after {self._last_seq}")
        self._check_file()
        firsts = self._firsts(batches, record)
        written = announced(record, firsts, batches)
        rows = self._rows(record.seq, batches, firsts)  # compressed before the write lock is taken
        self._prepare_disk()
        try:
            self._store(rows, written, batches, firsts)
        except LogUnavailableError as error:
            if error.code != "LOG_FULL" or not self._make_room():
                raise
            self._store(rows, written, batches, firsts)
        self._last_seq = record.seq
        self._next |= {(b.topic, b.partition): firsts[b.topic, b.partition] + b.count for b in batches}
        return written

    def _check_file(self) -> None:
        """SQLite goes on writing into a file that has been removed or replaced: nobody would ever read that."""
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            raise StopError(
                f"the log {self._path} was removed or replaced while it was open",
                code="LOG_MOVED",
                hint="put the file back, or begin with a new state folder and a new load",
            )

    def _firsts(self, batches: list[Batch], record: CommitRecord) -> dict[tuple[str, int], int]:
        places = [(batch.topic, batch.partition) for batch in batches]
        if len(set(places)) != len(places):
            raise InvariantError("two batches of one topic-partition in a log transaction")
        places += [(marker.topic, partition) for marker in record.markers for partition in marker.at]
        for topic, partition in places:
            if topic not in self._topics or not 0 <= partition < self._topics[topic][1]:
                raise InvariantError(f"partition {partition} of topic {topic} was not made by ensure_topics")
        return {place: self._next.get(place, 0) for place in places}

    def _rows(
        self, seq: int, batches: list[Batch], firsts: dict[tuple[str, int], int]
    ) -> list[tuple[int, int, int, int, int, bool, int, bytes]]:
        rows: list[tuple[int, int, int, int, int, bool, int, bytes]] = []
        for batch in batches:
            topic, first = self._topics[batch.topic][0], firsts[batch.topic, batch.partition]
            for at in range(0, len(batch.frames), PART_BYTES):
                codec, content = self._pack(batch.frames[at : at + PART_BYTES])
                place = seq << PARTS_BITS | len(rows)
                rows.append((place, topic, batch.partition, first, batch.count, batch.counted, codec, content))
        if len(rows) >> PARTS_BITS:
            raise InvariantError(f"{len(rows)} parts in one log transaction")
        return rows

    def _pack(self, frames: bytes) -> tuple[int, bytes]:
        if len(frames) >= SMALLEST_COMPRESSED:
            packed = self._compressor.compress(frames)
            if len(packed) < len(frames):
                return ZSTD, packed
        return RAW, frames

    def _store(
        self,
        rows: list[tuple[int, int, int, int, int, bool, int, bytes]],
        written: CommitRecord,
        batches: list[Batch],
        firsts: dict[tuple[str, int], int],
    ) -> None:
        following = [
            (self._topics[b.topic][0], b.partition, firsts[b.topic, b.partition] + b.count) for b in batches if b.count
        ]
        with sqlite_file.errors(self._path), self._transaction():
            self._check_epoch()
            self._connection.executemany("insert into batches values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._connection.executemany("insert or replace into offsets values (?, ?, ?)", following)
            self._connection.execute(
                "insert into commits values (?, ?, ?)", (written.seq, written.load_full, written.to_text())
            )
            self._trim(max(TRIM_ROWS, 2 * len(rows)))
            failpoint("log.before_commit")

    def _check_epoch(self) -> None:
        if self._connection.execute("select epoch from log").fetchone()[0] != self._epoch:
            raise FencedError(f"another capture process has opened the log {self._path}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Nothing inside is half done.

        Raises:
            OutcomeUnknownError: the disk failed while committing; what stands there is known after `open`.
        """
        execute = self._connection.execute
        execute("begin immediate")
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        try:
            execute("commit")
        except sqlite3.Error as error:
            self._roll_back()
            # Full: the last page, which alone makes the transaction valid, was not written. Else it may have been.
            if sqlite_file.primary_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
                raise
            self._epoch = None
            raise OutcomeUnknownError(f"the disk failed while committing to {self._path}", detail=str(error)) from error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite has already rolled back after some errors
            self._connection.execute("rollback")

    def _trim(self, limit: int) -> int:
        """Delete up to `limit` parts and as many commit records below the slowest sink, inside the caller's
        transaction; returns how many rows. Never the last record, nor what `open` has to return."""
        execute = self._connection.execute
        floor = execute("select min(applied) from sinks").fetchone()[0]
        if floor is None or floor < 0:
            return 0
        gone = execute(
            "delete from batches where id in (select id from batches where id < ? order by id limit ?)",
            ((floor + 1) << PARTS_BITS, limit),
        ).rowcount
        gone += execute(
            "delete from commits where seq in (select seq from commits"
            " where seq <= ? and seq < (select max(seq) from commits)"
            " and seq < coalesce((select max(seq) from commits where load_full), 0) order by seq limit ?)",
            (floor, limit),
        ).rowcount
        execute("update log set trimmed = ? where trimmed < ?", (floor, floor))
        return int(gone)

    def _give_back_pages(self, spare: int) -> bool:
        """Shorten the file a little when more than `spare` pages are free, outside of any transaction; the disk has
        them at the next checkpoint. In small steps: a long one would write the same pages into the WAL many times."""
        if self._connection.execute("pragma freelist_count").fetchone()[0] <= spare:
            return False
        # Not execute: it would stop after the first page, which SQLite reports as a row without columns.
        self._connection.executescript(f"pragma incremental_vacuum({VACUUM_PAGES})")
        return True

    def _move_wal(self) -> None:
        self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()

    def _prepare_disk(self) -> None:
        """
        Raises:
            LogUnavailableError: too little space is left, even after trimming (LOG_FULL).
        """
        if self._free_bytes() < self._log.reserve_bytes:
            self._make_room()
            if self._free_bytes() < self._log.reserve_bytes:
                raise LogUnavailableError(
                    f"less than {self._log.reserve_bytes >> 20} MB are free on the disk of the log {self._path}",
                    code="LOG_FULL",
                    hint="free space there; the pipeline goes on by itself, also when a sink has caught up",
                )
        with suppress(sqlite3.OperationalError):  # a luxury: what is not given back now is later
            if self._give_back_pages(SPARE_PAGES):
                self._connection.execute("pragma wal_checkpoint(passive)").fetchall()

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._path.parent).free

    def _make_room(self) -> bool:
        """Trim all that can be trimmed, in small transactions, and give the pages back; True when any was found.
        A disk without room for even that is left as it is."""
        found = False
        try:
            while self._trim_step():
                found = True
            self._move_wal()
            while self._free_bytes() < 2 * self._log.reserve_bytes and self._give_back_pages(0):
                self._move_wal()
        except sqlite3.OperationalError as error:
            log.warning("no room for trimming the log", extra={"path": str(self._path), "error": str(error)})
        return found

    def _trim_step(self) -> int:
        with self._transaction():
            self._check_epoch()
            return self._trim(TRIM_ROWS)

    def close(self) -> None:
        self._connection.close()


# Made when it is first needed: a log without it is of the same format.
_DEAD_LETTERS = """
create table if not exists dead_letters(
  sink text not null, target text not null, topic text not null, partition integer not null, "offset" integer not null,
  seq integer not null, position text not null, code text not null, reason text not null, key blob, value blob,
  unique (sink, topic, partition, "offset")
)
"""


class EmbeddedReader:
    """Each call is one statement, finished before it returns: a read transaction left open would let the WAL grow."""

    def __init__(self, event_log: EmbeddedLog) -> None:
        self._path = event_log.path
        self._connection = sqlite_file.connect(self._path, "reader")
        self._decompressor = zstandard.ZstdDecompressor()
        self._pending: dict[str, int] = {}
        self._noted_at = -PROGRESS_SECONDS

    def last_seq(self) -> int:
        with sqlite_file.errors(self._path):
            last: int = self._connection.execute("select coalesce(max(seq), -1) from commits").fetchone()[0]
        return last

    def commits(self, after: int, limit: int, timeout: float) -> list[CommitRecord]:
        self._note_progress()
        deadline, pause = time.monotonic() + timeout, 0.001
        while True:
            with sqlite_file.errors(self._path):
                version = self._data_version()
                if records := self._commits_now(after, limit):
                    return records
                while self._data_version() == version:
                    if (left := deadline - time.monotonic()) <= 0:
                        return []
                    time.sleep(min(pause, left))
                    pause = min(2 * pause, 0.016)

    def _data_version(self) -> int:
        """Changes whenever another connection has committed; read from shared memory, no query."""
        version: int = self._connection.execute("pragma data_version").fetchone()[0]
        return version

    def _commits_now(self, after: int, limit: int) -> list[CommitRecord]:
        # One statement, so that `trimmed` and the records are of one moment; the last row has no record.
        rows = self._connection.execute(
            "select * from (select seq, record from commits where seq > ? order by seq limit ?) union all"
            " select trimmed, null from log union all select coalesce(max(seq), -1), null from commits",
            (after, limit),
        ).fetchall()
        (trimmed, _), (last, _) = rows[-2:]
        if after < trimmed or (len(rows) > 2 and rows[0][0] != after + 1):
            raise PositionLostError(
                f"commit record {after + 1} is gone from the log {self._path}",
                code="OFFSET_LOST",
                detail=f"trimmed up to {trimmed}, below the slowest sink that was registered",
                hint=LOAD_AGAIN,
            )
        if after > last:
            raise PositionLostError(
                f"the log {self._path} ends at commit record {last}, before {after}, which the target holds",
                code="OFFSET_LOST",
                hint=f"the log was restored from an older copy: {LOAD_AGAIN}",
            )
        return [_record(text, self._path) for _, text in rows[:-2]]

    def read(self, record: CommitRecord) -> list[Batch]:
        with sqlite_file.errors(self._path):
            rows = self._connection.execute(
                "select name, partition, first, count, codec, frames from batches join topics on topics.id = topic"
                " where batches.id >= ? and batches.id < ? and counted order by batches.id",
                (record.seq << PARTS_BITS, (record.seq + 1) << PARTS_BITS),
            ).fetchall()
        parts: dict[tuple[str, int, int, int], list[bytes]] = {}
        for topic, partition, first, count, codec, content in rows:
            parts.setdefault((topic, partition, first, count), []).append(self._unpack(codec, content))
        try:
            found = [parts[r.topic, r.partition, r.first, r.count] for r in record.ranges]
        except KeyError:
            raise self._hole(record) from None
        return [
            Batch(r.topic, r.partition, r.count, some[0] if len(some) == 1 else b"".join(some))
            for r, some in zip(record.ranges, found, strict=True)
        ]

    def _unpack(self, codec: int, content: bytes) -> bytes:
        if codec == RAW:
            return content
        try:
            return self._decompressor.decompress(content)
        except zstandard.ZstdError as error:
            raise StopError(
                f"a batch in {self._path} is damaged",
                code="LOG_DAMAGED",
                detail=str(error),
                hint="restore the file, or begin with a new state folder and a new load",
            ) from error

    def _hole(self, record: CommitRecord) -> StopError | PositionLostError:
        message = f"records of commit record {record.seq} are not in the log {self._path}"
        trimmed = self._connection.execute("select trimmed from log").fetchone()[0]
        kind = PositionLostError if record.seq <= trimmed else StopError
        return kind(message, code="OFFSET_LOST", hint=LOAD_AGAIN)

    def applied(self, sink: str, seq: int) -> None:
        """Noted at most a few times a second; a note that cannot be written is written by a later call."""
        self._pending[sink] = max(seq, self._pending.get(sink, -1))
        self._note_progress()

    def _note_progress(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not self._pending or (now < self._noted_at + PROGRESS_SECONDS and not at_once):
            return
        self._noted_at = now
        try:
            for sink, seq in self._pending.items():
                self._connection.execute(
                    "insert into sinks values (?, ?)"
                    " on conflict do update set applied = excluded.applied where excluded.applied > applied",
                    (sink, seq),
                )
        except sqlite3.OperationalError as error:
            log.warning("progress not noted in the log", extra={"path": str(self._path), "error": str(error)})
            return
        self._pending.clear()

    def set_aside(self, letters: list[DeadLetter]) -> None:
        with sqlite_file.errors(self._path):
            self._connection.execute("pragma synchronous = full")  # no later commit of the writer vouches for them
            self._connection.execute("begin immediate")
            try:
                self._connection.execute(_DEAD_LETTERS)
                self._connection.executemany(
                    "insert into dead_letters values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
                    [astuple(letter) for letter in letters],
                )
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")
            self._connection.execute("pragma synchronous = normal")

    def dead_letters(self) -> list[DeadLetter]:
        with sqlite_file.errors(self._path):
            found = self._connection.execute("select 1 from sqlite_master where name = 'dead_letters'").fetchone()
            rows = self._connection.execute("select * from dead_letters order by rowid") if found else []
            return [DeadLetter(*row) for row in rows]

    def close(self) -> None:
        """Notes the progress not noted yet."""
        self._note_progress(at_once=True)
        self._connection.close()


def _record(text: str, path: Path) -> CommitRecord:
    try:
        return CommitRecord.from_text(text)
    except ValueError as error:
        raise StopError(
            f"the log {path} was written by a later version",
            code="LOG_VERSION",
            detail=str(error),
            hint="use the version of Tailrace that wrote it",
        ) from error
