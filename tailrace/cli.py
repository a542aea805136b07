"""The `tailrace` command: words and flags in, one of the commands, an exit code out. Names: interfaces.md.

Every command runs inside `boundary.guarded`, so that each error is printed by name and ends with its documented exit
code, the argument parser's own included: those quote the user's words, which may be URIs with passwords.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tailrace import commands
from tailrace.arguments import PipelineFlags, read_pipeline, read_pipeline_file
from tailrace.boundary import EXIT_INTERRUPTED, guarded, reporter
from tailrace.commands import Flags, version_line
from tailrace.http_server import parse_address
from tailrace.letters import Act, Chosen
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


WORDS = "SOURCE TARGET | PIPELINE.yaml"
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


@dataclass(frozen=True, kw_only=True)
class Options:
    """Words and flags of the commands that work on a pipeline, in the order of their --help; each takes the fields that
    `_flags` leaves it."""

    words: list[str] | None = None
    name: Name = None
    state: State = None
    tables: Tables = None
    maps: Maps = None
    mode: ModeFlag = None
    start: From = None
    log: Log = None
    until_current: UntilCurrent = False
    consistency: ConsistencyFlag = None
    emit_config: EmitConfig = False
    http: Http = None
    as_json: Json = False
    log_level: Level = LogLevel.INFO
    log_format: Format = LogFormat.TEXT
    connect_timeout: Timeout = 30.0
    supervised: Supervised = False

    @property
    def pipeline(self) -> PipelineFlags:
        """What the pipeline is."""
        return PipelineFlags(
            name=self.name,
            tables=tuple(self.tables or ()),
            maps=tuple(self.maps or ()),
            mode=None if self.mode is None else self.mode.value,
            start=self.start,
            log=self.log,
            consistency=None if self.consistency is None else self.consistency.value,
        )

    @property
    def working(self) -> Flags:
        """How the command works.

        Raises:
            ConfigError: --http is not HOST:PORT.
        """
        return Flags(
            as_json=self.as_json,
            log_level=self.log_level.value,
            log_format=self.log_format.value,
            state=self.state,
            until_current=self.until_current,
            http=None if self.http is None else parse_address(self.http),
            connect_timeout=self.connect_timeout,
            supervised=self.supervised,
        )


def _flags(*without: str, metavar: str = WORDS) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turn a function of Options into one that Typer can read: with the fields as parameters, but those `without`."""
    words = Annotated[list[str] | None, typer.Argument(metavar=metavar, show_default=False)]
    hints = get_type_hints(Options, include_extras=True) | {"words": words}
    parameters = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(Options)
        if field.name not in without
    ]

    def make(command: Callable[[Options], None]) -> Callable[..., None]:
        def with_flags(**given: Any) -> None:
            command(Options(**given))

        with_flags.__name__, with_flags.__doc__ = command.__name__, command.__doc__
        with_flags.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return with_flags

    return make


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
@_flags("supervised")
def run(options: Options) -> None:
    """Load and replicate: one capture process and one process per sink, supervised."""

    def work() -> int:
        settings = read_pipeline(options.words or [], options.pipeline, needs_target=True)
        if options.emit_config:
            return commands.emit_config(settings, options.as_json)
        return commands.run(settings, options.working)

    _end(work, options.as_json, options.state)


@app.command()
@_flags("consistency")
def capture(options: Options) -> None:
    """One capture process, for containers: source to log."""

    def work() -> int:
        settings = read_pipeline(options.words or [], options.pipeline, needs_target=False)
        if options.emit_config:
            return commands.emit_config(settings, options.as_json)
        return commands.capture(settings, options.working)

    _end(work, options.as_json, options.state, CAPTURE if options.supervised else None)


@app.command()
@_flags(metavar="SOURCE TARGET | PIPELINE.yaml NAME")
def sink(options: Options) -> None:
    """One sink process, for containers: log to target."""
    words = options.words or []

    def work() -> int:
        settings, which = _sink_words(words, options.pipeline)
        if options.emit_config:
            return commands.emit_config(settings, options.as_json)
        return commands.sink(settings, which, options.working)

    _end(work, options.as_json, options.state, sink_role((words or [""])[-1]) if options.supervised else None)


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
@_flags("start", "until_current", "emit_config", "http", "supervised")
def check(options: Options) -> None:
    """Preflight: everything that would stop the pipeline, with the statement that clears it. Changes nothing."""

    def work() -> int:
        settings = read_pipeline(options.words or [], options.pipeline, needs_target=False)
        return commands.check(settings, options.working)

    _end(work, options.as_json, options.state)


_NOT_OF_TAIL = "name state maps mode start log until_current consistency emit_config http supervised"


@app.command()
@_flags(*_NOT_OF_TAIL.split(), metavar="SOURCE")
def tail(options: Options) -> None:
    """Print the changes of a source from now on. Nothing is left behind."""

    def work() -> int:
        if options.words is None or len(options.words) != 1:
            raise ConfigError("say SOURCE, one URI", hint="tailrace tail postgresql://…")
        return commands.print_changes(options.words[0], tuple(options.tables or ()), options.working)

    _end(work, options.as_json, None)


@app.command()
def status(state: State = None, name: Name = None, as_json: Json = False) -> None:
    """What a pipeline is doing, or was doing when it ended. Needs no process running."""
    _end(lambda: commands.status(state, name, as_json), as_json, None)


@app.command()
def drop(state: State = None, name: Name = None, yes: Yes = False, as_json: Json = False) -> None:
    """Remove a pipeline: slot, publication, state. Shows what first; the target's tables stay."""
    _end(lambda: commands.drop(state, name, yes, as_json), as_json, None)


def _dead_letter(act: Act) -> Callable[..., None]:
    def command(
        ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="as `list` shows them")] = None,
        every: Annotated[bool, typer.Option("--all", help="all that are not done with")] = False,
        sink: Annotated[str | None, typer.Option("--sink", help="of this sink only")] = None,
        state: State = None,
        name: Name = None,
        as_json: Json = False,
    ) -> None:
        def work() -> int:
            return commands.dead_letters(act, Chosen(tuple(ids or ()), every, sink), state, name, as_json)

        _end(work, as_json, state)

    return command


_letters = typer.Typer(help="Events that a target refused: list, show, replay, discard.", no_args_is_help=True)
app.add_typer(_letters, name="dead-letter")
for _act in Act:
    _letters.command(_act.value, help=_act.meaning)(_dead_letter(_act))


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
