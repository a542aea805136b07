"""Which test files say that they prove which cases, read from their text: nothing is imported or run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SPECS = TESTS / "specs"
HEAD = re.compile(r"-- case ([A-Z0-9 ]+): (.+)")


def marks() -> dict[str, set[str]]:
    """Case id → files below the repository's root that hold a `case(…)` mark with it; specs name theirs in line one."""
    found: dict[str, set[str]] = {}
    for path in sorted([*TESTS.rglob("test_*.py"), *SPECS.glob("*.sql")]):
        for case in _marked(path):
            found.setdefault(case, set()).add(path.relative_to(TESTS.parent).as_posix())
    return found


def _marked(path: Path) -> Iterator[str]:
    if path.suffix == ".sql":
        head = HEAD.match(path.read_text().splitlines()[0])
        assert head, f"{path.name} does not begin with `-- case A1: =`"
        yield from head[1].split()
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _name(node.func) == "case":
            yield from (str(word.value) for word in node.args if isinstance(word, ast.Constant))


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
