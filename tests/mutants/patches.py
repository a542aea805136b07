"""The patches of this folder. Each plants one fault in the product; its head says which, and which tests must see it:

    Acknowledges to the source what is not in the log yet.
    violates: rule A4, case E6
    test: tests/pipeline/test_postgres_resume.py::test_only_what_is_in_the_log_is_acknowledged[POSTGRES18]

    --- a/capture/tailrace_capture/feed.py

`violates`: rules as the code's comments cite them, cases of docs/cases.md. `test`: ids of pytest, one a line; few and
quick ones, any of which may see the fault.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PRODUCT = ("schemas", "log", "capture", "sinks")
_HEAD = re.compile(
    r"(?P<what>[A-Z][^\n]+\.)\n"
    r"violates: (?P<violates>(?:rule|case) [A-Z]\d+(?:, (?:rule|case) [A-Z]\d+)*)\n"
    r"(?P<tests>(?:test: tests/[^\n]+::[^\n]+\n)+)\n(?=--- a/)"
)
_FILE = re.compile(r"^\+\+\+ b/(\S+)$", re.MULTILINE)


class PatchError(Exception):
    """A patch without its head, or one that does not fit the code."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`files`: what the patch changes, below the repository's root."""

    path: Path
    what: str
    violates: tuple[str, ...]
    tests: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem


def read(path: Path) -> Mutant:
    """
    Raises:
        PatchError: the head is not as described above, or the patch changes something beside the product.
    """
    text = path.read_text()
    head, files = _HEAD.match(text), tuple(_FILE.findall(text))
    if head is None:
        raise PatchError(f"{path.name} does not begin with a sentence, `violates: rule A4`, `test: tests/…::…`")
    if not files or any(file.split("/")[0] not in PRODUCT for file in files):
        raise PatchError(f"{path.name} changes {files or 'nothing'}, not files of {', '.join(PRODUCT)}")
    tests = tuple(line.removeprefix("test: ") for line in head["tests"].splitlines())
    return Mutant(path, head["what"], tuple(head["violates"].split(", ")), tests, files)


def read_all() -> list[Mutant]:
    return [read(path) for path in sorted(FOLDER.glob("*.patch"))]


def apply(mutant: Mutant, folder: Path) -> None:
    """Plant the fault in a copy of the repository, which may hold no more than `Mutant.files`.

    Raises:
        PatchError: the code around the fault is another by now.
    """
    # Without the ceiling a repository above the copy would be taken for the one that is meant.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    words = ["git", "apply", "-p1", str(mutant.path)]
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise PatchError(ended.stderr.strip())
