"""`tailrace tail SOURCE`: print the changes of a source, from now on, as text or JSON.

The usual capture runs in this process into a log in a temporary folder, and its events are decoded by fastavro. The
slot it needs is temporary: it goes with the connection, however this process ends. The publication is removed at the
end; what a killed `tail` left of it, by the next one.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro

from tailrace.boundary import print_json
from tailrace.lifeline import Lifeline
from tailrace.pipeline import capture_settings, open_source
from tailrace.state import StateFolder
from tailrace_capture.service import CaptureStatus, run_capture
from tailrace_log.embedded import EmbeddedLog
from tailrace_log.log import Batch, EventLog, SchemaRegistry
from tailrace_schemas.errors import TailraceError
from tailrace_schemas.settings import PipelineSettings
from tailrace_schemas.wire import frames

READER = "tail"
_OPERATIONS = {"c": "insert", "u": "update", "d": "delete", "r": "read", "t": "truncate"}


def tail_name() -> str:
    """A pipeline name that no other has: its slot can be told from one that must stay."""
    return f"tail_{secrets.token_hex(4)}"


def tail(settings: PipelineSettings, life: Lifeline, as_json: bool, connect_timeout: float) -> int:
    """Print until told to end. `settings`: resolved, mode cdc, with a name of `tail_name`.

    Raises:
        TailraceError: of the source.
    """
    with tempfile.TemporaryDirectory(prefix="tailrace-tail-") as folder:
        state = StateFolder(Path(folder))
        with closing(EmbeddedLog(state.log_file, settings.prefix)) as event_log:
            capture = _Capture(settings, state, event_log, life, connect_timeout)
            capture.start()
            try:
                _print_all(event_log, capture, as_json)
            finally:
                life.stop.set()
                capture.join(20)
                _drop(settings, state)
            if capture.error is not None:
                raise capture.error
    return 0


class _Capture(threading.Thread):
    """The capture service in a thread; `error` is what ended it, if anything did."""

    def __init__(
        self, settings: PipelineSettings, state: StateFolder, event_log: EventLog, life: Lifeline, timeout: float
    ) -> None:
        super().__init__(name="capture", daemon=True)
        self._source = open_source(settings, state, event_log.log_id, temporary=True)
        wanted = capture_settings(settings, until_current=False, connect_timeout=timeout)
        # The printer counts as a sink, so that the log forgets what has been printed.
        self._settings = replace(wanted, sinks=(READER,))
        self._log, self.stopping = event_log, life.stop
        self.error: TailraceError | None = None

    def run(self) -> None:
        try:
            run_capture(self._source, self._log, self._settings, self.stopping, CaptureStatus())
        except TailraceError as error:
            self.error = error
        finally:
            self.stopping.set()


def _drop(settings: PipelineSettings, state: StateFolder) -> None:
    with closing(open_source(settings, state)) as source:
        source.drop()


def _print_all(event_log: EventLog, capture: _Capture, as_json: bool) -> None:
    after = -1
    with closing(event_log.reader()) as reader:
        while not capture.stopping.is_set():
            if reader.last_seq() <= after:
                capture.stopping.wait(0.05)
                continue
            for record in reader.commits(after, 100, 0.2):
                for batch in reader.read(record):
                    for event in events(event_log.registry, batch):
                        print_event(event, as_json)
                after = record.seq
            reader.applied(READER, after)


def events(registry: SchemaRegistry, batch: Batch) -> Iterator[dict[str, Any]]:
    """The decoded envelopes of a batch, tombstones left out; `key` is added to each."""
    for key, value in frames(batch.frames):
        if value is None:
            continue
        event = decode(registry, value)
        event["key"] = None if key is None else decode(registry, key)
        yield event


def decode(registry: SchemaRegistry, data: bytes) -> dict[str, Any]:
    """A record with its schema id in front."""
    schema = fastavro.parse_schema(json.loads(registry.schema(int.from_bytes(data[1:5], "big"))))
    out = fastavro.schemaless_reader(io.BytesIO(data[5:]), schema, None)
    assert isinstance(out, dict)
    return out


def print_event(event: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(plain(event)))
        return
    source = event["source"]
    at = datetime.fromtimestamp((source.get("ts_ms") or 0) / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    table = f"{source.get('schema') or source.get('db')}.{source.get('table')}"
    row = event["after"] if event["after"] is not None else event["before"]
    shown = {**(row or {}), **dict.fromkeys(event.get("unavailable_columns") or (), "(not sent)")}
    fields = " ".join(f"{name}={_text(value)}" for name, value in shown.items())
    print(f"{at} {_OPERATIONS.get(event['op'], event['op']):8} {table} {fields}", flush=True)  # noqa: T201


def _text(value: object) -> str:
    shown = plain(value)
    return shown if isinstance(shown, str) and shown.isalnum() else json.dumps(shown, ensure_ascii=False)


def plain(value: Any) -> Any:
    """What JSON can carry: bytes as base64, decimals as text."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, Decimal) else value
