"""Running a capture in this process, and rebuilding tables from its log with fastavro, no Tailrace decoder involved."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fastavro

from tailrace_capture.postgres.source import PostgresSettings, PostgresSource
from tailrace_capture.service import CaptureSettings, CaptureStatus, run_capture
from tailrace_capture.source import Source
from tailrace_log.embedded import EmbeddedLog, EmbeddedWriter
from tailrace_log.log import Batch, CommitRecord, EventLog
from tailrace_schemas import wire
from tailrace_schemas.mapping import TableSelection
from tailrace_schemas.uri import parse_database_url

Event = dict[str, Any]


def postgres_source(
    url: str, spool: Path, tables: tuple[str, ...] = (), owner: str = "", ddl_trigger: Literal["on", "off"] = "off"
) -> PostgresSource:
    """Slot and publication are named after the database, since a slot's name is the whole server's."""
    selection = TableSelection.parse("postgresql", tables)
    where = parse_database_url(url)
    name = f"tailrace_{where.database}"
    settings = PostgresSettings(
        where, name, name, "t", selection.selects, spool=spool, owner=owner, ddl_trigger=ddl_trigger
    )
    return PostgresSource(settings)


@dataclass(slots=True)
class RunningCapture:
    stop: threading.Event
    status: CaptureStatus
    thread: threading.Thread
    errors: list[BaseException] = field(default_factory=list)

    def check(self) -> None:
        if self.errors:
            raise self.errors[0]


@contextmanager
def running_capture(source: Source, log: EventLog, **settings: Any) -> Iterator[RunningCapture]:
    """A capture in a thread; stopped, and its error raised, at the end."""
    stop, status, errors = threading.Event(), CaptureStatus(), list[BaseException]()
    wanted = CaptureSettings(pipeline="p", **{"readers": 2, "chunk_rows": 500, **settings})

    def work() -> None:
        try:
            run_capture(source, log, wanted, stop, status)
        except BaseException as error:  # noqa: BLE001 - raised again by `check`
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    running = RunningCapture(stop, status, thread, errors)
    try:
        yield running
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive(), "capture did not stop"
    running.check()


class CrashError(BaseException):
    """The process is gone."""


class DyingLog(EmbeddedLog):
    """A log whose writer dies at the n-th write, before or after it is durable."""

    def __init__(self, path: Path, lives: Iterator[tuple[int, bool]]) -> None:
        super().__init__(path, "t")
        self._lives = lives

    def writer(self, pipeline: str, sinks: list[str]) -> EmbeddedWriter:
        out = super().writer(pipeline, sinks)
        writes, after = next(self._lives, (1 << 60, False))
        left = [writes]
        write = out.write

        def dying(batches: list[Batch], record: CommitRecord) -> CommitRecord:
            left[0] -= 1
            if left[0] == 0 and not after:
                raise CrashError
            done = write(batches, record)
            if left[0] == 0:
                raise CrashError
            return done

        out.write = dying  # type: ignore[method-assign]
        return out


class LogReading:
    """All events of a log in order, decoded by fastavro with the registered schemas."""

    def __init__(self, log: EventLog) -> None:
        self._log, self._schemas = log, dict[int, Any]()
        self._reader = log.reader()

    def records(self) -> list[CommitRecord]:
        out: list[CommitRecord] = []
        while got := self._reader.commits(out[-1].seq if out else -1, 1000, 0.0):
            out += got
        return out

    def events(self) -> Iterator[tuple[str, Event | None, Event | None]]:
        """(topic, key, value) with markers in between as (topic, None, {"marker": kind, **data}). Without those of
        abandoned series (rule C3)."""
        records = self.records()
        left_out = abandoned(records)
        for record in records:
            if record.seq in left_out:
                continue
            batches = {(b.topic, b.partition): wire.frames(b.frames) for b in self._reader.read(record)}
            first = {(r.topic, r.partition): r.first for r in record.ranges}
            told = dict.fromkeys(batches, 0)
            for marker in record.markers:
                for partition, offset in marker.at.items():
                    place = (marker.topic, partition)
                    if place in batches:
                        until = offset - first[place]
                        yield from self._decoded(marker.topic, batches[place][told[place] : until])
                        told[place] = max(told[place], until)
                yield marker.topic, None, {"marker": marker.kind, **marker.data}
            for place, frames in batches.items():
                yield from self._decoded(place[0], frames[told[place] :])

    def _decoded(self, topic: str, frames: Any) -> Iterator[tuple[str, Event | None, Event | None]]:
        for key, value in frames:
            yield topic, self.decode(key), self.decode(value)

    def decode(self, data: bytes | None) -> Event | None:
        if data is None:
            return None
        assert data[0] == 0
        schema_id = int.from_bytes(data[1:5], "big")
        if schema_id not in self._schemas:
            self._schemas[schema_id] = fastavro.parse_schema(json.loads(self._log.registry.schema(schema_id)))
        stream = io.BytesIO(data[5:])
        out = fastavro.schemaless_reader(stream, self._schemas[schema_id], None)
        assert stream.read() == b"", "bytes after the event"
        assert isinstance(out, dict)
        return out


def abandoned(records: list[CommitRecord]) -> set[int]:
    """Sequences of the stream records that were taken back."""
    out: set[int] = set()
    for closing in records:
        if closing.kind == "abandon":
            assert closing.since is not None
            out |= {r.seq for r in records if closing.since <= r.seq < closing.seq and r.kind == "stream"}
    return out


def _columns(schema: Event) -> dict[str, str]:
    """Column → JSON text of its Avro type."""
    after = next(field for field in schema["fields"] if field["name"] == "after")
    record = next(branch for branch in after["type"] if branch != "null")
    if not isinstance(record, dict):
        before = next(field for field in schema["fields"] if field["name"] == "before")
        record = next(branch for branch in before["type"] if branch != "null")
    return {field["name"]: json.dumps(field["type"]) for field in record["fields"]}


def _evolved(row: Event, names: dict[str, str], marker: Event) -> Event:
    """A row that exists, under the columns that a schema marker announces."""
    renamed, defaults = marker.get("renamed") or {}, marker.get("defaults") or {}
    known = {renamed.get(name, name): value for name, value in row.items()}
    told = {name: int(text) if '"int"' in names[name] else text for name, text in defaults.items()}
    return {name: known.get(name, told.get(name)) for name in names}


def rebuild(log: EventLog) -> dict[str, dict[str, Event]]:
    """Tables by topic, rows by key text, as the events say; keyless rows by their own text with a running number."""
    tables: dict[str, dict[str, Event]] = {}
    for topic, key, value in LogReading(log).events():
        rows = tables.setdefault(topic, {})
        if value is None:
            continue
        if "marker" in value:
            if value["marker"] in ("truncate", "reload"):
                rows.clear()
            elif value["marker"] == "schema":
                names = _columns(json.loads(log.registry.schema(value["value_schema_id"])))
                tables[topic] = {place: _evolved(row, names, value) for place, row in rows.items()}
            continue
        place = json.dumps(key, default=str)
        if value["op"] == "d":
            assert place in rows, f"delete of an absent row: {topic} {place}"
            del rows[place]
        else:
            if value["op"] in ("c", "r"):
                assert place not in rows, f"doubled: {topic} {place} {value['op']}"
            else:
                assert place in rows, f"update of an absent row: {topic} {place}"
            kept = rows.get(place, {})
            missing = value["unavailable_columns"] or ()
            rows[place] = {n: kept.get(n) if n in missing else v for n, v in value["after"].items()}
    return tables
