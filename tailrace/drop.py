"""`tailrace drop`: remove what a pipeline leaves behind: slot, publication, progress rows, state. A slot that nobody
reads any more fills the source's disk, so this is the way to end a pipeline for good."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from tailrace.pipeline import forget_progress, open_source
from tailrace.processes import CAPTURE, sink_role
from tailrace.state import StateFolder
from tailrace_schemas.log_uri import KafkaLogUrl
from tailrace_schemas.settings import PipelineSettings


def plan(settings: PipelineSettings, state: StateFolder) -> list[str]:
    """A sentence for each thing that will be removed, and for what will be left."""
    source = settings.source
    out = []
    if source.url.engine == "postgresql":
        out.append(f"replication slot {source.slot} and publication {source.publication} at {source.url.place}")
    out += [f"the pipeline's progress rows at {sink.url.place}" for sink in settings.sinks]
    out += [f"the event log {path}" for path in _log_files(settings)[:1]]
    out.append(f"the state folder {state.path}")
    return out


def left(settings: PipelineSettings) -> list[str]:
    """What stays: the tables in the targets, and topics in Kafka."""
    out = [f"the tables at {sink.url.place}" for sink in settings.sinks]
    if _is_kafka(settings):
        out.append(f"topics of prefix {settings.prefix} in Kafka")
    return out


def drop(settings: PipelineSettings, state: StateFolder) -> list[str]:
    """Remove it all; returns a sentence for each thing removed. `settings` are resolved. Repeating it is harmless.

    Raises:
        StopError: the pipeline is running (code STATE_HELD).
        SourceUnavailableError: the source does not answer; nothing was removed.
    """
    locks = [state.lock(role) for role in ("", CAPTURE, *(sink_role(sink.name) for sink in settings.sinks))]
    try:
        with closing(open_source(settings, state)) as source:
            done = source.drop()
        for sink in settings.sinks:
            count = forget_progress(settings, sink)
            done.append(f"removed {count} progress rows at {sink.url.place}")
        for path in _log_files(settings):
            path.unlink(missing_ok=True)
        shutil.rmtree(state.path)
        return [*done, f"removed {state.path}"]
    finally:
        for lock in locks:
            lock.release()


def _log_files(settings: PipelineSettings) -> list[Path]:
    """The files of an embedded log that lies outside the state folder."""
    if isinstance(settings.log, KafkaLogUrl) or settings.log.path is None:
        return []
    return [Path(settings.log.path + suffix) for suffix in ("", "-wal", "-shm")]


def _is_kafka(settings: PipelineSettings) -> bool:
    return isinstance(settings.log, KafkaLogUrl)
