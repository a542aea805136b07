"""Preflight: everything that would stop or weaken a pipeline, asked of both ends at once, before anything is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from tailrace.pipeline import open_sink, open_source
from tailrace.state import StateFolder
from tailrace_schemas.errors import Finding, PreflightError, RetryableError, TailraceError
from tailrace_schemas.settings import PipelineSettings, SinkSettings
from tailrace_schemas.table import TableSchema
from tailrace_schemas.uri import DatabaseUrl

RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Preflight:
    """`unreachable`: an end that did not answer within the timeout; its part of the findings is missing."""

    findings: list[Finding] = field(default_factory=list)
    tables: list[TableSchema] = field(default_factory=list)
    unreachable: TailraceError | None = None

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def require(self) -> None:
        """
        Raises:
            PreflightError: a finding of level error.
            SourceUnavailableError, TargetUnavailableError: an end did not answer.
        """
        if self.errors:
            raise PreflightError(self.findings)
        if self.unreachable is not None:
            raise self.unreachable


def examine(settings: PipelineSettings, state: StateFolder, timeout: float) -> Preflight:
    """All findings of the source and of every sink. `settings` are resolved. Tries an end that does not answer again
    for `timeout` seconds."""
    out = Preflight(_tls_findings(settings))
    deadline = time.monotonic() + timeout
    _part(out, deadline, partial(_examine_source, settings, state, out))
    mapped = map_namespaces(settings, out.tables)
    for sink in settings.sinks:
        _part(out, deadline, partial(_examine_sink, mapped, sink, out))
    return out


def _part(out: Preflight, deadline: float, work: Callable[[], None]) -> None:
    """One end: an error that it raises is a finding like any other, but for an end that cannot be reached."""
    while True:
        try:
            work()
            return
        except RetryableError as error:
            if time.monotonic() < deadline:
                time.sleep(RETRY_SECONDS)
                continue
            out.unreachable = out.unreachable or error
            return
        except TailraceError as error:
            text = f"{error.message}: {error.detail}" if error.detail else error.message
            out.findings.append(Finding("error", error.code, text, error.hint, error.table))
            return


def _examine_source(settings: PipelineSettings, state: StateFolder, out: Preflight) -> None:
    with closing(open_source(settings, state)) as source:
        found = source.preflight(settings.mode != "cdc", settings.mode != "full-load")
        out.tables = source.tables()
    out.findings += found
    if not out.tables:
        out.findings.append(
            Finding(
                "error", "NO_TABLES", "no table matches the selection", "look at --tables, or `tables` of the source"
            )
        )


def _examine_sink(settings: PipelineSettings, sink: SinkSettings, out: Preflight) -> None:
    with closing(open_sink(settings, sink, "")) as opened:
        out.findings += opened.findings(out.tables)


def _tls_findings(settings: PipelineSettings) -> list[Finding]:
    ends: list[tuple[str, DatabaseUrl]] = [("source", settings.source.url)]
    ends += [(f"sink {sink.name}", sink.url) for sink in settings.sinks]
    return [
        Finding(
            "warning",
            "WEAK_TLS",
            f"{name}: sslmode={url.sslmode} to {url.place} does not prove whom it talks to",
            "use sslmode=verify-full, with sslrootcert=… where the CA is your own",
        )
        for name, url in ends
        if url.weak_tls
    ]


def map_namespaces(settings: PipelineSettings, tables: list[TableSchema]) -> PipelineSettings:
    """A MySQL target that names a database takes the source's namespace into it when the selected tables have only one
    (design §10); with several, every one keeps its name. Written into the map, so that later tables follow the rule
    as it was at the first start."""
    databases = {sink.url.database for sink in settings.sinks if sink.url.engine != "postgresql" and sink.url.database}
    if settings.map or not databases or settings.source.selection.only_namespace() is not None:
        return settings
    namespaces = sorted({schema.table.schema for schema in tables})
    if len(namespaces) == 1 and len(databases) == 1:
        return settings.model_copy(update={"map": {namespaces[0]: databases.pop()}})
    return settings.model_copy(update={"map": {name: name for name in namespaces}})
