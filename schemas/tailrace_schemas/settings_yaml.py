"""pipeline.yaml: text to settings with line numbers, and settings back to text with secrets as references.

Plain YAML only: no tags, no anchors or aliases, no key twice, one document. A value like `!shop.audit` is a tag to YAML
and must be quoted; the error says so. Source: YAML 1.1, as PyYAML's SafeLoader reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from tailrace_schemas.settings import (
    PipelineSettings,
    Problem,
    SettingsError,
    SinkSettings,
    SourceSettings,
    at_lines,
    kafka_secrets,
    kafka_with_references,
    parse_settings,
)

SOURCE_PASSWORD = "TAILRACE_SOURCE_PASSWORD"  # noqa: S105  # the name of a variable

Path = tuple[str | int, ...]
_PLAIN = "tag:yaml.org,2002:"
_CONVERTED = frozenset(_PLAIN + name for name in ("int", "float", "bool", "null"))
_TEXT = frozenset(_PLAIN + name for name in ("str", "timestamp", "value", "merge"))
_KNOWN_TAGS = _CONVERTED | _TEXT | {_PLAIN + "map", _PLAIN + "seq"}


def read_settings(text: str, origin: str) -> PipelineSettings:
    """
    Raises:
        SettingsError: all problems at once, each with its line.
    """
    reader = _Reader()
    data = reader.read(text, origin)
    if reader.problems:
        # Settings problems of the rest come along, so that one look mends all.
        known = {problem.path for problem in reader.problems}
        reader.problems += [other for other in _settings_problems(data, reader.lines) if other.path not in known]
        raise at_lines(SettingsError(reader.problems, origin), reader.lines, origin)
    try:
        return parse_settings(data)
    except SettingsError as error:
        raise at_lines(error, reader.lines, origin) from None


def _settings_problems(data: Mapping[str, object], lines: Mapping[Path, int]) -> list[Problem]:
    try:
        parse_settings(data)
    except SettingsError as error:
        return at_lines(error, lines, "").problems
    return []


class _Reader:
    """YAML nodes to plain values; `lines` gets the line of every key and list item by its path."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {(): 1}
        self.problems: list[Problem] = []
        self._loader = yaml.SafeLoader("")

    def read(self, text: str, origin: str) -> dict[str, object]:
        """
        Raises:
            SettingsError: not YAML, or not a mapping at the top.
        """
        try:
            self._refuse_aliases(text, origin)
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise SettingsError([_syntax_problem(error)], origin) from None
        if not isinstance(node, yaml.MappingNode):
            raise SettingsError([Problem((), "a pipeline is a mapping: name, source, sinks, …", line=1)], origin)
        return self._mapping(node, ())

    def _refuse_aliases(self, text: str, origin: str) -> None:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                problem = Problem((), "aliases are not supported: write it out", line=_line(event.start_mark))
                raise SettingsError([problem], origin)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        self._check_tag(node, path)
        out: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            line = _line(key_node.start_mark)
            here = (*path, key)
            if here in self.lines:
                self.problems.append(Problem(here, f"stands twice, first in line {self.lines[here]}", line=line))
                continue
            self.lines[here] = line
            out[key] = self._value(value_node, here)
        return out

    def _value(self, node: yaml.Node, path: Path) -> object:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path)
        self._check_tag(node, path)
        return self._loader.construct_object(node) if node.tag in _CONVERTED else node.value

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[object]:
        self._check_tag(node, path)
        out: list[object] = []
        for at, item in enumerate(node.value):
            self.lines[*path, at] = _line(item.start_mark)
            out.append(self._value(item, (*path, at)))
        return out

    def _check_tag(self, node: yaml.Node, path: Path) -> None:
        if node.tag in _KNOWN_TAGS:
            return
        hint = f'in quotes it is text: "{node.tag}"'
        self.problems.append(Problem(path, f"{node.tag} is a YAML tag", hint, _line(node.start_mark)))


def _line(mark: object) -> int:
    line = getattr(mark, "line", 0)  # PyYAML has two classes of marks, and None where there is no text
    return int(line) + 1


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        hint = "a text that begins with ! * & % @ or ` stands in quotes"
        return Problem((), f"not YAML: {error.problem}", hint, _line(error.problem_mark))
    return Problem((), "not YAML: a character that YAML does not allow")


def write_settings(settings: PipelineSettings) -> str:
    """pipeline.yaml text that reads back as the same settings. Passwords written out become `${env:…}`; the names of
    the variables are those of `password_variables`."""
    data: dict[str, object] = {"name": settings.name, "source": _source(settings.source), "mode": settings.mode}
    data["log"] = settings.log.with_references()
    data |= settings.model_dump(by_alias=True, exclude_defaults=True, exclude={*data, "sinks", "kafka"})
    data |= {"kafka": kafka_with_references(settings.kafka)} if settings.kafka else {}
    data["sinks"] = [_sink(sink) for sink in settings.sinks]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def _source(source: SourceSettings) -> dict[str, object]:
    rest = source.model_dump(exclude_defaults=True, exclude={"url"})
    rest |= {"tables": list(source.tables)} if source.tables else {}
    return {"url": source.url.with_references(SOURCE_PASSWORD), **rest}


def _sink(sink: SinkSettings) -> dict[str, object]:
    head: dict[str, object] = {"name": sink.name, "url": sink.url.with_references(sink_password(sink.name))}
    return head | {"consistency": sink.consistency} | sink.model_dump(exclude_defaults=True, exclude={"name", "url"})


def sink_password(name: str) -> str:
    """The environment variable that carries a sink's password in an emitted file."""
    return "TAILRACE_" + "".join(c if c.isalnum() else "_" for c in name).upper() + "_PASSWORD"


def password_variables(settings: PipelineSettings) -> dict[str, str]:
    """Variable → password, for the passwords that `write_settings` turns into references."""
    secrets = [(SOURCE_PASSWORD, settings.source.url.password)]
    secrets += [(sink_password(sink.name), sink.url.password) for sink in settings.sinks]
    secrets += settings.log.secrets() + kafka_secrets(settings.kafka)
    return {name: secret.reveal() for name, secret in secrets if secret is not None and secret.reference is None}
