"""The composition root: settings to a Source, an EventLog and a Sink. Only here is known which classes there are.

An engine's driver is imported when the engine is first used, so that the core runs with none installed. Sources and
sinks of third parties come by the entry point groups `tailrace.sources` and `tailrace.sinks`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, cast

from tailrace.state import StateFolder
from tailrace_capture.harm import HarmLimits, Steps
from tailrace_capture.service import CaptureSettings
from tailrace_capture.source import Source
from tailrace_log.log import EventLog
from tailrace_log.open import open_log
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import KafkaLogUrl
from tailrace_schemas.settings import PipelineSettings, SinkSettings
from tailrace_schemas.table import Engine
from tailrace_schemas.topic import commit_topic
from tailrace_sinks.sink import Sink, SinkConfig

_SINKS = {
    "postgresql": "tailrace_sinks.postgres:open_sink",
    "mysql": "tailrace_sinks.mysql:open_sink",
    "mariadb": "tailrace_sinks.mysql:open_sink",
}
_EXTRAS = {"psycopg": "postgres", "pymysql": "mysql", "confluent_kafka": "kafka"}


def open_event_log(settings: PipelineSettings, state: StateFolder) -> EventLog:
    """
    Raises:
        ConfigError: the path or a driver cannot be used.
        LogUnavailableError: try again.
    """
    return open_log(
        settings.log,
        prefix=settings.name,
        state=state.path,
        kafka=settings.kafka,
        topics=settings.topics,
        auto_register=settings.registry.auto_register,
        # A table's partitions are what several connections can share.
        partitions=max((sink.connections for sink in settings.sinks), default=1),
    )


def open_source(settings: PipelineSettings, state: StateFolder, log_id: str = "", *, temporary: bool = False) -> Source:
    """`log_id`: of the log it will feed, by which it knows what a start that died left behind; empty where nothing is
    captured. `temporary`: what it makes at the source goes with its connection, where the engine can do so.

    Raises:
        ConfigError: no such engine, or its driver is not installed.
    """
    engine = settings.source.url.engine
    if engine == "postgresql":
        return _open_postgres(settings, state, log_id, temporary)
    if engine in ("mysql", "mariadb"):
        return _open_mysql(settings)
    factory = _find("tailrace.sources", {}, engine)
    return cast("Source", factory(settings.source, settings.prefix))


def _open_postgres(settings: PipelineSettings, state: StateFolder, log_id: str, temporary: bool) -> Source:
    module = _import("tailrace_capture.postgres.source", "a Postgres source")
    source = settings.source
    wanted = module.PostgresSettings(
        url=source.url,
        slot=source.slot,
        publication=source.publication,
        prefix=settings.prefix,
        selects=source.selection.selects,
        # Consumers other than ours would write a placeholder over the value (rule C7).
        whole_images=isinstance(settings.log, KafkaLogUrl) and not settings.allow_partial_images,
        owner=log_id,
        temporary=temporary,
        ddl_trigger="off" if temporary else source.ddl_trigger,
        spool=state.spool,
    )
    return cast("Source", module.open_source(wanted))


def _open_mysql(settings: PipelineSettings) -> Source:
    module = _import("tailrace_capture.mysql.source", "a MySQL source")
    source = settings.source
    wanted = module.MySqlSettings(
        url=source.url,
        server_id=source.server_id,
        prefix=settings.prefix,
        selects=source.selection.selects,
        heartbeat_seconds=source.heartbeat_seconds,
    )
    return cast("Source", module.open_source(wanted))


def open_sink(settings: PipelineSettings, sink: SinkSettings, log_id: str) -> Sink:
    """`log_id`: of the log it will read; empty for preflight, which reads none.

    Raises:
        ConfigError: no such engine, or its driver is not installed.
    """
    factory = _find("tailrace.sinks", _SINKS, sink.url.engine)
    return cast("Sink", factory(sink.url, sink_config(settings, sink, log_id)))


def forget_progress(settings: PipelineSettings, sink: SinkSettings) -> int:
    """Remove the pipeline's progress from a target; returns how many rows it had.

    Raises:
        TargetUnavailableError, ConfigError: as `Sink.open`.
    """
    place = _SINKS[sink.url.engine].partition(":")[0]
    return int(_load(f"{place}:forget_pipeline", sink.url.engine)(sink.url, settings.name))


def sink_config(settings: PipelineSettings, sink: SinkSettings, log_id: str) -> SinkConfig:
    return SinkConfig(
        pipeline=settings.name,
        name=sink.name,
        commit_topic=commit_topic(settings.prefix),
        log_id=log_id,
        namespaces=sink_namespaces(settings, sink),
        on_row_error=sink.on_row_error,
        max_dead_letters=sink.max_dead_letters,
        max_dead_letter_share=sink.max_dead_letter_share,
        schema_changes=settings.schema_changes,
        zero_dates=settings.zero_dates,
        loads=settings.mode != "cdc",
        cascades=sink.cascades,
        target_triggers=sink.target_triggers,
        consistency=sink.consistency,
        connections=sink.connections,
    )


def sink_namespaces(settings: PipelineSettings, sink: SinkSettings) -> dict[str, str]:
    """Source namespace → target namespace: the map as written; without one, a MySQL target that names a database takes
    the one namespace that is selected into it.

    Raises:
        ConfigError: it names a database, and which namespaces will come cannot be told beforehand.
    """
    if settings.map or sink.url.engine == "postgresql" or not sink.url.database:
        return dict(settings.map)
    only = settings.source.selection.only_namespace()
    if only is not None:
        return {} if only == sink.url.database else {only: sink.url.database}
    raise ConfigError(
        f"sink {sink.name} names database {sink.url.database!r}, but tables may come from several namespaces",
        code="MAP_NEEDED",
        hint=f"say which goes there, --map public={sink.url.database}, or select one, --tables 'public.*'",
    )


def capture_settings(settings: PipelineSettings, until_current: bool, connect_timeout: float) -> CaptureSettings:
    return CaptureSettings(
        pipeline=settings.name,
        mode=settings.mode,
        sinks=tuple(sink.name for sink in settings.sinks),
        readers=settings.load.readers,
        chunk_rows=settings.load.chunk_rows,
        max_rows_per_second=settings.load.max_rows_per_second,
        start=settings.start,
        until_current=until_current,
        key_bytes=settings.partition_by == "key_bytes",
        heartbeat_seconds=settings.source.heartbeat_seconds,
        transaction_metadata=settings.transaction_metadata,
        foreign_truncate=settings.foreign_truncate,
        connect_timeout=connect_timeout,
        harm=_harm_limits(settings),
    )


def _harm_limits(settings: PipelineSettings) -> HarmLimits:
    wal, binlog = settings.source.max_wal_kept, settings.source.min_binlog_left
    snapshot = settings.load.max_snapshot_seconds
    return HarmLimits(
        max_wal_kept=Steps(wal.warn, wal.pause_load, wal.stop),
        min_binlog_left=Steps(binlog.warn, binlog.pause_load, binlog.stop),
        snapshot_warn=snapshot.warn,
        snapshot_end=snapshot.end,
    )


def _find(group: str, own: dict[str, str], engine: Engine) -> Callable[..., Any]:
    if engine in own:
        return _load(own[engine], engine)
    for entry in entry_points(group=group, name=engine):
        return _load(entry.value, engine)
    raise ConfigError(f"no module for {engine} is installed", hint=f"entry point group {group}")


def _load(place: str, what: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return cast("Callable[..., Any]", getattr(_import(module, what), name))


def _import(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ConfigError(
            f"{what} needs the package {error.name}, which is not installed",
            code="DRIVER_MISSING",
            hint=f"pip install 'tailrace[{extra}]'",
        ) from error
