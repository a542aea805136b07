"""Which tables a pipeline takes, and under which names they arrive.

A pattern is `namespace.table` (Postgres schema, MySQL database); `%` or `*` stands for any run of characters,
everything else for itself, upper and lower case apart. `!` in front excludes. The last pattern that fits decides. A
table that fits none is left out, unless the first pattern excludes: then it is taken. A part in double quotes or
backticks is literal, dots and stars included: `"my.schema"."a*b"`; the quote itself is written twice.
System namespaces, and Tailrace's own, are never taken, whatever a pattern says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.table import Engine, TableId

OWN_NAMESPACE = "tailrace"
_MYSQL_SYSTEM = frozenset({"mysql", "information_schema", "performance_schema", "sys"})
_PART = re.compile(r'"(?:[^"]|"")+"|`(?:[^`]|``)+`|[^."`]+')


def is_system_namespace(engine: Engine, namespace: str) -> bool:
    """Namespaces no pipeline takes. Postgres reserves every name that begins with pg_ (CREATE SCHEMA, manual)."""
    if namespace == OWN_NAMESPACE:
        return True
    if engine == "postgresql":
        return namespace == "information_schema" or namespace.startswith("pg_")
    return namespace.lower() in _MYSQL_SYSTEM


@dataclass(frozen=True, slots=True)
class TablePattern:
    """One parsed pattern. `namespace` is set where that part is one literal name."""

    text: str
    exclude: bool
    regex: re.Pattern[str]
    namespace: str | None

    @staticmethod
    def parse(text: str) -> TablePattern:
        """
        Raises:
            ConfigError: not `namespace.table`.
        """
        body = text.strip()
        exclude = body.startswith("!")
        parts = _parts(body.removeprefix("!").strip())
        if len(parts) != 2:
            raise ConfigError(
                f"table pattern {text!r} is not namespace.table",
                hint='shop.orders, shop.*, !shop.audit; a dot inside a name in quotes: "my.schema".orders',
            )
        namespace, table = parts
        # \0 stands in no identifier, so it cannot be confused with a part of a name, as a dot could.
        regex = re.compile(f"{_regex(namespace)}\0{_regex(table)}", re.DOTALL)
        return TablePattern(text, exclude, regex, _literal(namespace))

    def fits(self, table: TableId) -> bool:
        return self.regex.fullmatch(f"{table.schema}\0{table.name}") is not None


def _parts(text: str) -> list[str]:
    """The dot-separated parts, quotes kept; empty when the text is anything else."""
    out: list[str] = []
    at = 0
    while match := _PART.match(text, at):
        out.append(match.group())
        at = match.end()
        if at == len(text):
            return out
        if text[at] != ".":
            return []
        at += 1
    return []


def _unquoted(part: str) -> str | None:
    for quote in '"`':
        if part.startswith(quote):
            return part[1:-1].replace(quote * 2, quote)
    return None


def _literal(part: str) -> str | None:
    quoted = _unquoted(part)
    if quoted is not None:
        return quoted
    return None if re.search("[%*]", part) else part


def _regex(part: str) -> str:
    literal = _literal(part)
    if literal is not None:
        return re.escape(literal)
    return "".join(".*" if piece in "%*" else re.escape(piece) for piece in re.split("([%*])", part) if piece)


@dataclass(frozen=True, slots=True)
class TableSelection:
    """The tables of one source. `engine` decides which namespaces are the system's. No pattern means every table."""

    engine: Engine
    patterns: tuple[TablePattern, ...] = ()

    @staticmethod
    def parse(engine: Engine, texts: Iterable[str]) -> TableSelection:
        """
        Raises:
            ConfigError: see `TablePattern.parse`.
        """
        return TableSelection(engine, tuple(TablePattern.parse(text) for text in texts))

    def selects(self, table: TableId) -> bool:
        if is_system_namespace(self.engine, table.schema):
            return False
        taken = not self.patterns or self.patterns[0].exclude
        for pattern in self.patterns:
            if pattern.fits(table):
                taken = not pattern.exclude
        return taken

    def only_namespace(self) -> str | None:
        """The one namespace that tables can come from, where the patterns alone say so."""
        names = {pattern.namespace for pattern in self.patterns if not pattern.exclude}
        if not self.patterns or self.patterns[0].exclude or len(names) != 1:
            return None
        return names.pop()


@dataclass(frozen=True, slots=True)
class NamespaceMap:
    """Source namespace → target namespace. A namespace that is not named keeps its name."""

    names: Mapping[str, str] = field(default_factory=dict)

    def target(self, table: TableId) -> TableId:
        return TableId(self.names.get(table.schema, table.schema), table.name)

    @staticmethod
    def parse(texts: Iterable[str]) -> NamespaceMap:
        """From `public=shop` words.

        Raises:
            ConfigError: not `source=target`, or a source named twice.
        """
        out: dict[str, str] = {}
        for text in texts:
            source, separator, target = text.partition("=")
            if not (source and separator and target):
                raise ConfigError(f"namespace map {text!r} is not source=target", hint="--map public=shop")
            if source in out:
                raise ConfigError(f"namespace {source!r} is mapped twice")
            out[source] = target
        return NamespaceMap(out)
