"""The `tailrace` command: words and flags in, one of the commands, an exit code out. Names: interfaces.md.

Every command runs inside `boundary.guarded`, so that each error is printed by name and ends with its documented exit
code, the argument parser's own included: those quote the user's words, which may be URIs with passwords.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tailrace import commands
from tailrace.arguments import PipelineFlags, read_pipeline, read_pipeline_file
from tailrace.boundary import EXIT_INTERRUPTED, guarded, reporter
from tailrace.commands import Flags, version_line
from tailrace.http_server import parse_address
from tailrace.processes import CAPTURE, sink_role, status_reporter
from tailrace.state import StateFolder
from tailrace_schemas.errors import EXIT_DONE, EXIT_USAGE, ConfigError
from tailrace_schemas.settings import PipelineSettings
from tailrace_schemas.uri import looks_like_url

app = typer.Typer(
    name="tailrace",
    help="Log-based change data capture and database migration.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Mode(StrEnum):
    FULL_LOAD = "full-load"
    CDC = "cdc"
    BOTH = "full-load-and-cdc"


class Consistency(StrEnum):
    TRANSACTION = "transaction"
    KEY = "key"


Words = Annotated[list[str] | None, typer.Argument(metavar="SOURCE TARGET | PIPELINE.yaml", show_default=False)]
Name = Annotated[str | None, typer.Option("--name", help="name of the pipeline; default: the source's database")]
State = Annotated[Path | None, typer.Option("--state", help="folder of the pipeline's own state")]
Tables = Annotated[list[str] | None, typer.Option("--tables", help="schema.table; % or * any run, ! excludes; repeat")]
Maps = Annotated[list[str] | None, typer.Option("--map", help="rename a namespace: public=shop; repeat")]
ModeFlag = Annotated[Mode | None, typer.Option("--mode", help="default full-load-and-cdc")]
From = Annotated[str | None, typer.Option("--from", help="mode cdc, first start: a position, or now")]
Log = Annotated[str | None, typer.Option("--log", help="sqlite, sqlite:///path/log.db or kafka://…; default sqlite")]
UntilCurrent = Annotated[
    bool, typer.Option("--until-current", help="end when all that the source holds now is applied")
]
ConsistencyFlag = Annotated[Consistency | None, typer.Option("--consistency", help="default transaction")]
EmitConfig = Annotated[bool, typer.Option("--emit-config", help="print the pipeline.yaml this means, and end")]
Http = Annotated[str | None, typer.Option("--http", help="HOST:PORT of /healthz, /readyz, /metrics")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, everything else on stderr")]
Level = Annotated[LogLevel, typer.Option("--log-level")]
Format = Annotated[LogFormat, typer.Option("--log-format")]
Timeout = Annotated[float, typer.Option("--connect-timeout", min=0, help="seconds to wait at the first start")]
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True, help="child of `run`; stdin is its life line")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version_line())  # noqa: T201
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Log-based change data capture and database migration."""


@app.command()
def run(
    words: Words = None,
    name: Name = None,
    state: State = None,
    tables: Tables = None,
    maps: Maps = None,
    mode: ModeFlag = None,
    start: From = None,
    log: Log = None,
    until_current: UntilCurrent = False,
    consistency: ConsistencyFlag = None,
    emit_config: EmitConfig = False,
    http: Http = None,
    as_json: Json = False,
    log_level: Level = LogLevel.INFO,
    log_format: Format = LogFormat.TEXT,
    connect_timeout: Timeout = 30.0,
) -> None:
    """Load and replicate: one capture process and one process per sink, supervised."""
    pipeline = _pipeline_flags(name, tables, maps, mode, start, log, consistency)

    def work() -> int:
        settings = read_pipeline(words or [], pipeline, needs_target=True)
        if emit_config:
            return commands.emit_config(settings, as_json)
        flags = _flags(as_json, log_level, log_format, state, until_current, http, connect_timeout)
        return commands.run(settings, flags)

    _end(work, as_json, state)


@app.command()
def capture(
    words: Words = None,
    name: Name = None,
    state: State = None,
    tables: Tables = None,
    maps: Maps = None,
    mode: ModeFlag = None,
    start: From = None,
    log: Log = None,
    until_current: UntilCurrent = False,
    emit_config: EmitConfig = False,
    http: Http = None,
    as_json: Json = False,
    log_level: Level = LogLevel.INFO,
    log_format: Format = LogFormat.TEXT,
    connect_timeout: Timeout = 30.0,
    supervised: Supervised = False,
) -> None:
    """One capture process, for containers: source to log."""
    pipeline = _pipeline_flags(name, tables, maps, mode, start, log, None)

    def work() -> int:
        settings = read_pipeline(words or [], pipeline, needs_target=False)
        if emit_config:
            return commands.emit_config(settings, as_json)
        flags = _flags(as_json, log_level, log_format, state, until_current, http, connect_timeout, supervised)
        return commands.capture(settings, flags)

    _end(work, as_json, state, CAPTURE if supervised else None)


@app.command()
def sink(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE TARGET | PIPELINE.yaml NAME", show_default=False)
    ] = None,
    name: Name = None,
    state: State = None,
    tables: Tables = None,
    maps: Maps = None,
    mode: ModeFlag = None,
    start: From = None,
    log: Log = None,
    until_current: UntilCurrent = False,
    consistency: ConsistencyFlag = None,
    emit_config: EmitConfig = False,
    http: Http = None,
    as_json: Json = False,
    log_level: Level = LogLevel.INFO,
    log_format: Format = LogFormat.TEXT,
    connect_timeout: Timeout = 30.0,
    supervised: Supervised = False,
) -> None:
    """One sink process, for containers: log to target."""
    pipeline = _pipeline_flags(name, tables, maps, mode, start, log, consistency)

    def work() -> int:
        settings, which = _sink_words(words or [], pipeline)
        if emit_config:
            return commands.emit_config(settings, as_json)
        flags = _flags(as_json, log_level, log_format, state, until_current, http, connect_timeout, supervised)
        return commands.sink(settings, which, flags)

    _end(work, as_json, state, sink_role((words or [""])[-1]) if supervised else None)


def _sink_words(words: list[str], flags: PipelineFlags) -> tuple[PipelineSettings, str]:
    """SOURCE TARGET has one sink; a pipeline file is followed by the sink's name, or has only one."""
    if words and not looks_like_url(words[0]):
        settings = read_pipeline_file(Path(words[0]), words[2:], flags)
        if len(words) == 1 and len(settings.sinks) != 1:
            names = ", ".join(one.name for one in settings.sinks) or "none"
            raise ConfigError("which sink?", hint=f"tailrace sink PIPELINE.yaml NAME; its sinks: {names}")
        return settings, words[1] if len(words) > 1 else settings.sinks[0].name
    settings = read_pipeline(words, flags, needs_target=True)
    return settings, settings.sinks[0].name


@app.command()
def check(
    words: Words = None,
    name: Name = None,
    state: State = None,
    tables: Tables = None,
    maps: Maps = None,
    mode: ModeFlag = None,
    log: Log = None,
    consistency: ConsistencyFlag = None,
    as_json: Json = False,
    log_level: Level = LogLevel.INFO,
    log_format: Format = LogFormat.TEXT,
    connect_timeout: Timeout = 30.0,
) -> None:
    """Preflight: everything that would stop the pipeline, with the statement that clears it. Changes nothing."""
    pipeline = _pipeline_flags(name, tables, maps, mode, None, log, consistency)

    def work() -> int:
        settings = read_pipeline(words or [], pipeline, needs_target=False)
        return commands.check(settings, _flags(as_json, log_level, log_format, state, False, None, connect_timeout))

    _end(work, as_json, state)


@app.command()
def tail(
    words: Annotated[list[str] | None, typer.Argument(metavar="SOURCE", show_default=False)] = None,
    tables: Tables = None,
    as_json: Json = False,
    log_level: Level = LogLevel.INFO,
    log_format: Format = LogFormat.TEXT,
    connect_timeout: Timeout = 30.0,
) -> None:
    """Print the changes of a source from now on. Nothing is left behind."""

    def work() -> int:
        if words is None or len(words) != 1:
            raise ConfigError("say SOURCE, one URI", hint="tailrace tail postgresql://…")
        flags = _flags(as_json, log_level, log_format, None, False, None, connect_timeout)
        return commands.print_changes(words[0], tuple(tables or ()), flags)

    _end(work, as_json, None)


@app.command()
def status(state: State = None, name: Name = None, as_json: Json = False) -> None:
    """What a pipeline is doing, or was doing when it ended. Needs no process running."""
    _end(lambda: commands.status(state, name, as_json), as_json, None)


@app.command()
def drop(state: State = None, name: Name = None, yes: Yes = False, as_json: Json = False) -> None:
    """Remove a pipeline: slot, publication, state. Shows what first; the target's tables stay."""
    _end(lambda: commands.drop(state, name, yes, as_json), as_json, None)


def _pipeline_flags(
    name: str | None,
    tables: list[str] | None,
    maps: list[str] | None,
    mode: Mode | None,
    start: str | None,
    log: str | None,
    consistency: Consistency | None,
) -> PipelineFlags:
    return PipelineFlags(
        name=name,
        tables=tuple(tables or ()),
        maps=tuple(maps or ()),
        mode=None if mode is None else mode.value,
        start=start,
        log=log,
        consistency=None if consistency is None else consistency.value,
    )


def _flags(
    as_json: bool,
    log_level: LogLevel,
    log_format: LogFormat,
    state: Path | None,
    until_current: bool,
    http: str | None,
    connect_timeout: float,
    supervised: bool = False,
) -> Flags:
    return Flags(
        as_json=as_json,
        log_level=log_level.value,
        log_format=log_format.value,
        state=state,
        until_current=until_current,
        http=None if http is None else parse_address(http),
        connect_timeout=connect_timeout,
        supervised=supervised,
    )


def _end(work: Callable[[], int], as_json: bool, state: Path | None, child: str | None = None) -> None:
    """Leave with the exit code of `work`. `child`: its role under a supervisor, which prints its error, once, from its
    status file."""
    report = reporter(as_json) if child is None or state is None else status_reporter(StateFolder(state), child)
    raise typer.Exit(guarded(work, report, lambda: state))


# What an argument parser raises for a wrong flag or word; typer gives the class no name of its own.
_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind.__name__ == "ClickException"
)


def main() -> None:
    """The console script."""
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except _UsageError as error:
        code = _refuse(error)
    sys.exit(code or EXIT_DONE)


def _refuse(error: Exception) -> int:
    """The parser's message by our own way, since it may quote a URI."""
    text = getattr(error, "format_message", lambda: str(error))()
    if len(sys.argv) == 1:
        sys.stderr.write(f"{text}\n")  # the help
        return EXIT_USAGE
    report = reporter("--json" in sys.argv)
    report(ConfigError(text.rstrip("."), code="USAGE", hint="tailrace --help, tailrace COMMAND --help"))
    return EXIT_USAGE
