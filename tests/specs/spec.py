"""One file of SQL and expected events, read. The format is in README.md."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases.catalogue import VERSIONS, Case
from cases.marks import HEAD

PHASES = ("load", "target", "stream", "down")
_ON = re.compile(r"-- on (.+)")
_ONLY = re.compile(r"\[([A-Z0-9 ]+)\] ")
_SESSION = re.compile(r"@(\w+) ")
CAUGHT_UP = "caught up"


@dataclass(frozen=True, slots=True)
class Step:
    """A statement of a session, or CAUGHT_UP: wait until the log holds what was done so far."""

    session: str
    sql: str


@dataclass(slots=True)
class Script:
    """What a spec says for one version."""

    steps: dict[str, list[Step]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spec:
    """`name`: of the file; its tables are called `table` or begin with `table_`."""

    name: str
    cases: tuple[str, ...]
    verdict: str
    versions: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def table(self) -> str:
        return self.name.partition("_")[0]

    def owns(self, table: str) -> bool:
        return table == self.table or table.startswith(f"{self.table}_")

    def script(self, version: str) -> Script:
        script, phase, statement, only = Script(), "load", "", True
        for line in self.lines:
            if line.startswith("-- ") and line[3:] in PHASES:
                phase = line[3:]
            elif line == f"-- {CAUGHT_UP}":
                script.steps[phase].append(Step("", CAUGHT_UP))
            elif line.startswith("-> "):
                text, meant = _for(version, line[3:])
                script.events += [json.loads(text)] if meant else []
            elif statement or (line and not line.startswith("--")):
                if not statement:
                    line, only = _for(version, line)
                statement += line + "\n"
                if line.endswith(";"):
                    script.steps[phase] += [_step(statement)] if only else []
                    statement = ""
        assert not statement, f"{self.name}: no semicolon after {statement}"
        return script


def _for(version: str, line: str) -> tuple[str, bool]:
    """The line without its `[M A] `, and whether it is for `version`."""
    only = _ONLY.match(line)
    return (line[only.end() :], version in _versions(only[1])) if only else (line, True)


def _step(statement: str) -> Step:
    session = _SESSION.match(statement)
    return Step(session[1] if session else "", statement[session.end() if session else 0 :].strip().rstrip(";"))


def _versions(words: str) -> tuple[str, ...]:
    return Case("", "", "", words).versions


def read_specs(folder: Path) -> list[Spec]:
    return [_read(path) for path in sorted(folder.glob("*.sql"))]


def _read(path: Path) -> Spec:
    lines = path.read_text().splitlines()
    head, on = HEAD.fullmatch(lines[0]), _ON.fullmatch(lines[1])
    assert head and on, f"{path.name}: the first lines are `-- case A1: =` and `-- on P M A`"
    versions = _versions(on[1])
    assert set(versions) <= set(VERSIONS) and versions, path.name
    return Spec(path.stem, tuple(head[1].split()), head[2], versions, tuple(lines[2:]))
