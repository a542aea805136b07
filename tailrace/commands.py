"""What each command does, with its words and flags already read. Every function returns the exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailrace import drop as drops
from tailrace import letters, logs, preflight
from tailrace.arguments import PipelineFlags, from_flags, known_state, state_of, stored_settings
from tailrace.boundary import error_json, finding_json, print_error, print_findings, print_json
from tailrace.display import display, harm_text, size_text
from tailrace.http_server import serve
from tailrace.lifeline import Lifeline
from tailrace.monitor import pipeline_status
from tailrace.processes import CAPTURE, ProcessOptions, capture_process, sink_process, sink_role
from tailrace.state import StateFolder
from tailrace.supervisor import Supervisor
from tailrace.tail import tail, tail_name
from tailrace_schemas.errors import EXIT_DONE, EXIT_PREFLIGHT, ConfigError, TailraceError
from tailrace_schemas.settings import PipelineSettings, SettingsError, resolve_settings
from tailrace_schemas.settings_yaml import password_variables, write_settings
from tailrace_schemas.version import VERSION
from tailrace_schemas.wire import is_compiled


@dataclass(frozen=True, slots=True)
class Flags:
    """Flags that every working command has."""

    as_json: bool = False
    log_level: str = "info"
    log_format: logs.Format = "text"
    state: Path | None = None
    until_current: bool = False
    http: tuple[str, int] | None = None
    connect_timeout: float = 30.0
    supervised: bool = False

    def for_children(self) -> list[str]:
        return [
            *("--log-level", self.log_level, "--log-format", self.log_format),
            *("--connect-timeout", f"{self.connect_timeout:g}"),
        ]


def version_line() -> str:
    return f"tailrace {VERSION} ({'compiled' if is_compiled() else 'interpreted'})"


def emit_config(settings: PipelineSettings, as_json: bool) -> int:
    """Print the pipeline.yaml; say on stderr which variables must hold the passwords that were written out."""
    text = write_settings(settings)
    if as_json:
        print_json(yaml.safe_load(text))
    else:
        sys.stdout.write(text)
    for variable in password_variables(settings):
        sys.stderr.write(f"a password was left out: put it into the environment as {variable}\n")
    return EXIT_DONE


def run(settings: PipelineSettings, flags: Flags) -> int:
    """The supervisor: preflight at the first start, then one process for capture and for each sink.

    Raises:
        TailraceError: a person is needed.
    """
    if not settings.sinks:
        raise ConfigError("run needs a sink", hint="tailrace run SOURCE TARGET, or sinks: in the pipeline file")
    _say_first_line(flags)
    logs.set_up("run", flags.log_level, flags.log_format)
    life = Lifeline()
    life.watch_signals()
    state = state_of(settings, flags.state, os.environ)
    state.make()
    lock = state.lock()
    try:
        settings = _prepared(settings, state, flags)
        shown = display(flags.as_json)
        supervisor = Supervisor(settings, state, life, shown, os.environ, flags.for_children(), flags.until_current)
        try:
            with _http(flags, settings, state, None):
                code = supervisor.run()
        finally:
            shown.close()
        for role, error in supervisor.failures():
            print_error(_from_json(role, error))
        if flags.as_json:
            errors = [{"process": role, **error} for role, error in supervisor.failures()]
            print_json({"event": "end", "exit_code": code, "errors": errors})
        return code
    finally:
        lock.release()


def _say_first_line(flags: Flags) -> None:
    if flags.as_json:
        print_json({"event": "start", "version": VERSION, "compiled": is_compiled()})
    else:
        sys.stdout.write(version_line() + "\n")
        sys.stdout.flush()


def _prepared(settings: PipelineSettings, state: StateFolder, flags: Flags) -> PipelineSettings:
    """At the first start: preflight, and the namespace map it implies. Later: the map as it was."""
    if state.read_status(CAPTURE).get("was_running") and state.pipeline_file.exists():
        stored = stored_settings(state)
        return settings if settings.map else settings.model_copy(update={"map": stored.map})
    found = preflight.examine(_resolved(settings), state, flags.connect_timeout)
    warnings = [finding for finding in found.findings if finding.level == "warning"]
    if not found.errors:
        print_findings(warnings)
    found.require()
    return preflight.map_namespaces(settings, found.tables)


def _resolved(settings: PipelineSettings) -> PipelineSettings:
    return resolve_settings(settings, os.environ, lambda path: Path(path).read_text(encoding="utf-8"))


def _from_json(role: str, error: dict[str, str]) -> TailraceError:
    where = f" [{error['table']}]" if "table" in error else ""
    position = error.get("position")
    return TailraceError(
        f"{role}{where}: {error['message']}", code=error["code"], hint=error["remedy"], position=position
    )


@contextmanager
def _http(flags: Flags, settings: PipelineSettings, state: StateFolder, only: str | None) -> Iterator[None]:
    """Serve --http while inside."""
    if flags.http is None:
        yield
        return
    server = serve(flags.http, lambda: pipeline_status(settings, state), only)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def capture(settings: PipelineSettings, flags: Flags) -> int:
    """One capture process.

    Raises:
        TailraceError: a person is needed.
    """
    state, life = _process(CAPTURE, settings, flags)
    with _http(flags, settings, state, CAPTURE):
        return capture_process(settings, state, _options(flags), life)


def sink(settings: PipelineSettings, name: str, flags: Flags) -> int:
    """One sink process.

    Raises:
        TailraceError: a person is needed.
    """
    settings.sink(name)
    state, life = _process(sink_role(name), settings, flags)
    with _http(flags, settings, state, sink_role(name)):
        return sink_process(settings, name, state, _options(flags), life)


def _options(flags: Flags) -> ProcessOptions:
    return ProcessOptions(flags.until_current, flags.connect_timeout)


def _process(role: str, settings: PipelineSettings, flags: Flags) -> tuple[StateFolder, Lifeline]:
    logs.set_up(role, flags.log_level, flags.log_format)
    life = Lifeline()
    life.watch_signals()
    if flags.supervised:
        life.watch_supervisor()
    state = state_of(settings, flags.state, os.environ)
    state.make()
    if not (flags.supervised or state.pipeline_file.exists()):
        state.write_pipeline(write_settings(settings))  # for `status` and `drop`
    return state, life


def check(settings: PipelineSettings, flags: Flags) -> int:
    """Preflight only: every finding of both ends, errors first.

    Raises:
        RetryableError: an end did not answer; what the others said is printed first.
    """
    logs.set_up("check", flags.log_level, flags.log_format)
    state = state_of(settings, flags.state, os.environ)
    found = preflight.examine(_resolved(settings), state, flags.connect_timeout)
    print_findings(found.findings)
    if flags.as_json:
        ok = not found.errors and found.unreachable is None
        unreachable = None if found.unreachable is None else error_json(found.unreachable)
        findings = [finding_json(finding) for finding in found.findings]
        tables = [str(schema.table) for schema in found.tables]
        print_json({"ok": ok, "findings": findings, "unreachable": unreachable, "tables": tables})
    if found.errors:
        return EXIT_PREFLIGHT
    if found.unreachable is not None:
        print_error(found.unreachable)
        return 1
    if not flags.as_json:
        sys.stdout.write(f"ready: {len(found.tables)} tables, {len(found.findings)} warnings\n")
    return EXIT_DONE


def print_changes(source: str, tables: tuple[str, ...], flags: Flags) -> int:
    """`tail`: the changes of a source from now on.

    Raises:
        TailraceError: of the source.
    """
    logs.set_up("tail", "warning" if flags.log_level == "info" else flags.log_level, flags.log_format)
    settings = from_flags(source, None, PipelineFlags(name=tail_name(), tables=tables, mode="cdc"))
    life = Lifeline()
    life.watch_signals()
    return tail(_resolved(settings), life, flags.as_json, flags.connect_timeout)


def status(state: Path | None, name: str | None, as_json: bool) -> int:
    """
    Raises:
        ConfigError: no such pipeline.
    """
    folder = known_state(state, name, os.environ)
    data = pipeline_status(stored_settings(folder), folder)
    if as_json:
        print_json(data)
    else:
        print_status(data)
    return EXIT_DONE


def print_status(data: dict[str, Any]) -> None:
    """The status as a person reads it."""
    console = Console(highlight=False)
    console.print(_heading(data))
    _print_trouble(console, data["capture"]["error"])
    _print_harm(console, data["source"]["harm"])
    for sink_data in data["sinks"]:
        lag, applied = sink_data["lag"], sink_data["applied"]
        console.print(
            f"sink {sink_data['name']}: {sink_data['state']}, "
            f"{applied['inserts']:,} inserts, {applied['updates']:,} updates, {applied['deletes']:,} deletes, "
            f"lag {lag['source_to_log_seconds']:.1f} + {lag['log_to_target_seconds']:.1f} s, "
            f"{size_text(lag['bytes'])} behind"
        )
        _print_trouble(console, sink_data["error"])
    table = Table("table", "state", "rows loaded", "chunks", "error", box=None, pad_edge=False)
    for row in data["tables"]:
        chunks = f"{row['chunks_done']} of {row['chunks_total']}" if row["chunks_total"] else ""
        error = row["error"]["code"] if row["error"] else ""
        table.add_row(row["name"], row["state"], f"{row['rows_loaded']:,}", chunks, error)
    console.print(table)
    for row in data["tables"]:
        if row["state"] == "Table error":
            _print_trouble(console, row["error"], f" [{row['name']}]")


def _heading(data: dict[str, Any]) -> str:
    return (
        f"{data['pipeline']}: {data['state']}, {data['mode']}, {data['source']['kind']} at "
        f"{data['source']['position'] or 'no position yet'}, log {data['log']['kind']} "
        f"{size_text(data['log']['bytes'])}"
    )


def _print_harm(console: Console, harm: dict[str, Any]) -> None:
    """What the source keeps for us, as it was measured last."""
    if said := harm_text(harm, time.time()):
        console.print(f"at the source: {said}")
    for warning in harm.get("warnings", ()):
        console.print(Text(f"  {warning['code']}: {warning['message']}", style="yellow"))
        console.print(Text(f"  hint: {warning['remedy']}"))


def _print_trouble(console: Console, error: dict[str, Any] | None, where: str = "") -> None:
    if not error:
        return
    console.print(Text(f"  {error['code']}{where}: {error['message']}", style="red"))
    for label, word in (("position", "position"), ("hint", "remedy")):
        if error.get(word):
            console.print(Text(f"  {label}: {error[word]}"))


def drop(state: Path | None, name: str | None, yes: bool, as_json: bool) -> int:
    """Show what will be removed, ask, remove.

    Raises:
        TailraceError: of the source; or not confirmed.
    """
    folder = known_state(state, name, os.environ)
    settings = stored_settings(folder)
    resolved = _with_passwords(settings, "drop")
    for sentence in drops.plan(settings, folder):
        sys.stderr.write(f"will remove {sentence}\n")
    for sentence in drops.left(settings):
        sys.stderr.write(f"will leave {sentence}\n")
    if not yes and not _confirmed():
        raise ConfigError("nothing was removed", hint="answer y, or give --yes")
    done = drops.drop(resolved, folder)
    if as_json:
        print_json({"removed": done})
    else:
        sys.stdout.write("".join(f"{sentence}\n" for sentence in done))
    return EXIT_DONE


def _with_passwords(settings: PipelineSettings, command: str) -> PipelineSettings:
    """
    Raises:
        ConfigError: the state folder keeps references only, and one leads nowhere (code PASSWORD_MISSING).
    """
    try:
        return _resolved(settings)
    except SettingsError as error:
        raise ConfigError(
            f"{command} must log in where pipeline {settings.name} did, and its state folder keeps no password",
            code="PASSWORD_MISSING",
            detail=error.detail,
            hint=f"put what is named above in place, then {command} again; nothing was changed",
        ) from error


def dead_letters(act: letters.Act, chosen: letters.Chosen, state: Path | None, name: str | None, as_json: bool) -> int:
    """`dead-letter list|show|replay|discard`.

    Raises:
        TailraceError: of the log or a target; or nothing is chosen.
    """
    folder = known_state(state, name, os.environ)
    resolved = _with_passwords(stored_settings(folder), "dead-letter")
    return letters.work(act, chosen, resolved, folder, as_json)


def _confirmed() -> bool:
    return sys.stdin.isatty() and typer.confirm("remove all this?", err=True)
