"""Which error codes the packages raise, and how: read from their source, not from running them.

A code is met as `code=` of any call, as an argument for a parameter or field named `code`, as the default of an error
class that is called without one, and in a dict written as `{"code": …}`. A call whose code is an expression is listed
by its place: the test names those.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tailrace_schemas import errors

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "log", "capture", "sinks", "tailrace")
# Parts of the test suite that ship with a package: they raise what they test.
NOT_RAISING = "conformance"


@dataclass(slots=True)
class Raised:
    """`by_code`: code → (package, what is called). `computed`: `file: expression` of codes that are no literals."""

    by_code: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)


@functools.cache
def raised() -> Raised:
    out = Raised()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.name.startswith(NOT_RAISING):
                _scan(package, path, out)
    return out


def error_classes() -> dict[str, str]:
    """Name of every class of the tree → its default code."""
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return {kind.__name__: kind.default_code for kind in found if issubclass(kind, errors.TailraceError)}


def _scan(package: str, path: Path, out: Raised) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defaults, places = error_classes(), _places(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in defaults]
            defaults |= dict.fromkeys([node.name], defaults[bases[0]]) if bases else {}
        for called, code in _codes(node, places, defaults):
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                out.by_code.setdefault(code.value, set()).add((package, called))
            else:
                out.computed.add(f"{path.relative_to(ROOT)}: {ast.unparse(code)}")


def _places(tree: ast.Module) -> dict[str, int]:
    """What takes a code by position → which argument it is."""
    out = {"Finding": 1}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            out |= {node.name: names.index("code")} if "code" in names and names[0] != "self" else {}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp):  # found = _error if … else _warning
            chosen = node.value.body
            if isinstance(chosen, ast.Name) and chosen.id in out and isinstance(node.targets[0], ast.Name):
                out[node.targets[0].id] = out[chosen.id]
    return out


def _codes(node: ast.AST, places: dict[str, int], defaults: dict[str, str]) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "code":
                yield "dict", value
    if not isinstance(node, ast.Call):
        return
    called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
    if named:
        yield called, named[0]
    elif called in places and len(node.args) > places[called]:
        yield called, node.args[places[called]]
    elif called in defaults:
        yield called, ast.Constant(defaults[called])
