"""`tailrace drop`: remove what a pipeline leaves behind: slot, publication, progress rows, state. A slot that nobody
reads any more fills the source's disk, so this is the way to end a pipeline for good."""

from __future__ import annotations

import shutil
from contextlib import closing

from tailrace.pipeline import open_source
from tailrace.state import StateFolder
from tailrace_schemas.log_uri import KafkaLogUrl
from tailrace_schemas.settings import PipelineSettings


def plan(settings: PipelineSettings, state: StateFolder) -> list[str]:
    """A sentence for each thing that will be removed, and for what will be left."""
    source = settings.source
    out = []
    if source.url.engine == "postgresql":
        out.append(f"replication slot {source.slot} and publication {source.publication} at {source.url.place}")
    out.append(f"the state folder {state.path}" + ("" if _is_kafka(settings) else " with its event log"))
    return out


def left(settings: PipelineSettings) -> list[str]:
    """What stays: the tables in the targets always, topics in Kafka, and progress rows, which are told apart by log."""
    out = [f"tables and progress rows in {sink.url.place}" for sink in settings.sinks]
    if _is_kafka(settings):
        out.append(f"topics of prefix {settings.prefix} in Kafka")
    return out


def drop(settings: PipelineSettings, state: StateFolder) -> list[str]:
    """Remove it all; returns a sentence for each thing removed. `settings` are resolved. Repeating it is harmless.

    Raises:
        StopError: the pipeline is running (code STATE_HELD).
        SourceUnavailableError: the source does not answer; nothing was removed.
    """
    lock = state.lock()
    try:
        with closing(open_source(settings, state)) as source:
            done = source.drop()
        shutil.rmtree(state.path)
        return [*done, f"removed {state.path}"]
    finally:
        lock.release()


def _is_kafka(settings: PipelineSettings) -> bool:
    return isinstance(settings.log, KafkaLogUrl)
