"""What the words of a command line mean: SOURCE TARGET with flags, or PIPELINE.yaml, to settings and a state folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tailrace.state import StateFolder, default_state
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.mapping import NamespaceMap
from tailrace_schemas.settings import PipelineSettings, Problem, SettingsError, parse_settings
from tailrace_schemas.settings_yaml import read_settings
from tailrace_schemas.uri import SCHEMES, looks_like_url, parse_database_url

COMMAND_LINE = "the command line"
# Settings path → the flag that gave it, for messages about the command line.
_FLAGS = {
    "name": "--name",
    "source.url": "SOURCE",
    "source.tables": "--tables",
    "sinks.0.url": "TARGET",
    "sinks.0.name": "NAME",
    "sinks.0.consistency": "--consistency",
    "mode": "--mode",
    "from": "--from",
    "log": "--log",
    "map": "--map",
}
_SINK_NAMES = {"postgresql": "postgres", "postgres": "postgres", "mysql": "mysql", "mariadb": "mysql"}


@dataclass(frozen=True, slots=True)
class PipelineFlags:
    """The flags that say what a pipeline is; None and empty: not given. With a pipeline file none may be."""

    name: str | None = None
    tables: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    mode: str | None = None
    start: str | None = None
    log: str | None = None
    consistency: str | None = None

    def given(self) -> list[str]:
        values = {
            "--name": self.name,
            "--tables": self.tables,
            "--map": self.maps,
            "--mode": self.mode,
            "--from": self.start,
            "--log": self.log,
            "--consistency": self.consistency,
        }
        return [flag for flag, value in values.items() if value]


def sink_name(text: str) -> str:
    """A target engine's name as the name of its sink: aliases normalised, other names as they are."""
    return _SINK_NAMES.get(text, text)


def read_pipeline(words: list[str], flags: PipelineFlags, needs_target: bool) -> PipelineSettings:
    """
    Raises:
        ConfigError: the words are neither URIs nor a pipeline file, or what they say is wrong.
    """
    if words and not looks_like_url(words[0]):
        return read_pipeline_file(Path(words[0]), words[1:], flags)
    if not 1 <= len(words) <= 2 or (needs_target and len(words) < 2):
        raise ConfigError("say SOURCE TARGET, two URIs, or PIPELINE.yaml", hint="tailrace run postgresql://… mysql://…")
    return from_flags(words[0], words[1] if len(words) == 2 else None, flags)


def read_pipeline_file(path: Path, rest: list[str], flags: PipelineFlags) -> PipelineSettings:
    """
    Raises:
        ConfigError: it cannot be read, is not a pipeline, or flags contradict it.
    """
    if rest:
        raise ConfigError(f"{rest[0]!r} after a pipeline file is one word too many")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else "not UTF-8 text"
        hint = "PIPELINE.yaml, or URIs that begin with " + ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"{path} cannot be read", detail=reason, hint=hint) from error
    _refuse_dms(path, text)
    if given := flags.given():
        raise ConfigError(f"{', '.join(given)} stands in the pipeline file", hint=f"change it in {path}")
    return read_settings(text, str(path))


def _refuse_dms(path: Path, text: str) -> None:
    """AWS DMS task settings and table mappings are JSON objects; so may a pipeline be, since JSON is YAML."""
    if not text.lstrip().startswith("{"):
        return
    with suppress(ValueError):
        data = json.loads(text)
        if isinstance(data, dict) and not {"name", "source"} & data.keys():
            raise ConfigError(
                f"{path} is an AWS DMS task, which this version does not run yet",
                code="DMS_NOT_SUPPORTED",
                hint="write it as flags or as pipeline.yaml: tailrace run SOURCE TARGET --tables … --emit-config",
            )


def from_flags(source: str, target: str | None, flags: PipelineFlags) -> PipelineSettings:
    """
    Raises:
        SettingsError: all problems at once, each with its flag.
    """
    problems: list[Problem] = []
    data: dict[str, object] = {"name": flags.name or _default_name(source, problems)}
    data["source"] = {"url": source, "tables": list(flags.tables)}
    if target is not None:
        data["sinks"] = [_sink(target, flags)]
    optional = {"mode": flags.mode, "from": flags.start, "log": flags.log}
    data |= {key: value for key, value in optional.items() if value is not None}
    try:
        data["map"] = dict(NamespaceMap.parse(flags.maps).names)
    except ConfigError as error:
        problems.append(Problem(("map",), error.message, error.hint))
    try:
        settings = parse_settings(data)
    except SettingsError as error:
        raise _by_flag(error.problems + problems) from None
    if problems:
        raise _by_flag(problems)
    return settings


def _sink(target: str, flags: PipelineFlags) -> dict[str, object]:
    scheme = target.partition("://")[0].lower()
    sink: dict[str, object] = {"name": sink_name(scheme) if scheme in _SINK_NAMES else "target", "url": target}
    return sink | ({"consistency": flags.consistency} if flags.consistency else {})


def _default_name(source: str, problems: list[Problem]) -> str:
    try:
        database = parse_database_url(source).database
    except ConfigError:
        return "unnamed"  # the URI's own problem is reported
    if not database:
        problems.append(Problem(("name",), "is needed, since the source URI names no database", "--name shop"))
        return "unnamed"
    return database


def _by_flag(problems: list[Problem]) -> SettingsError:
    return SettingsError([_with_flag(problem) for problem in problems], COMMAND_LINE)


def _with_flag(problem: Problem) -> Problem:
    path = ".".join(str(part) for part in problem.path)
    flag = next((flag for key, flag in _FLAGS.items() if path == key or path.startswith(f"{key}.")), path)
    return Problem((flag,), problem.message, problem.hint)


def state_of(settings: PipelineSettings, state: Path | None, environment: Mapping[str, str]) -> StateFolder:
    return StateFolder((state or default_state(settings.name, environment, Path.home())).absolute())


def known_state(state: Path | None, name: str | None, environment: Mapping[str, str]) -> StateFolder:
    """The folder of a pipeline that has run: `--state`, `--name`, or the only one there is.

    Raises:
        ConfigError: none is named and there is not exactly one, or nothing ran there.
    """
    if state is not None and name is not None:
        raise ConfigError("--state and --name both name a pipeline", hint="give one of them")
    if state is None:
        state = default_state(name or _only_pipeline(environment), environment, Path.home())
    folder = StateFolder(state.absolute())
    folder.require()
    return folder


def _only_pipeline(environment: Mapping[str, str]) -> str:
    base = default_state("x", environment, Path.home()).parent
    names = sorted(path.parent.name for path in base.glob("*/pipeline.yaml"))
    if len(names) == 1:
        return names[0]
    found = f"found: {', '.join(names)}" if names else f"none has run in {base}"
    raise ConfigError("which pipeline?", detail=found, hint="--name NAME or --state DIR")


def stored_settings(state: StateFolder) -> PipelineSettings:
    """The settings with which the pipeline of a state folder was last run.

    Raises:
        ConfigError: it holds no pipeline.
    """
    try:
        text = state.pipeline_file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{state.path} holds no pipeline", detail=error.strerror or "") from error
    return read_settings(text, str(state.pipeline_file))
