"""One fault, one fresh copy of the checkout, one run of its tests there.

The copy has no compiled codecs, so that the patched source is what runs. Children of a test find it as well, by
PYTHONPATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mutants.patches import PRODUCT, ROOT, Mutant, PatchError, apply

COPIED = (*PRODUCT, "tailrace", "tests", "pyproject.toml")
TEST_SECONDS = 120  # a fault may make a test wait for ever; then that is how it is seen
RUN_SECONDS = 900
TESTS_FAILED = 1  # pytest's exit code; others: interrupted, internal error, wrong usage, no tests

CAUGHT, NOT_CAUGHT, SKIPPED = "caught", "NOT CAUGHT", "skipped"
DOES_NOT_APPLY, BROKEN = "does not apply", "broken"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`said`: what the test that caught it failed with, or why there is no verdict on the tests."""

    verdict: str
    said: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """How pytest ended. `failures`: test and first line of what it failed with; `errors`: the same of fixtures."""

    code: int
    passed: int
    failures: tuple[str, ...]
    errors: tuple[str, ...]
    last_line: str


@contextmanager
def copy_of_checkout() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tailrace-mutant-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # servers that root starts run as nobody
        for part in COPIED:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
            else:
                shutil.copy2(ROOT / part, folder / part)
        yield folder


def tried(mutant: Mutant) -> Outcome:
    """Plant the fault and see whether its tests see it."""
    began = time.monotonic()
    with copy_of_checkout() as folder:
        try:
            apply(mutant, folder)
        except PatchError as error:
            return Outcome(DOES_NOT_APPLY, str(error).splitlines()[0], time.monotonic() - began)
        run = run_tests(folder, mutant.tests, "-x")
    return Outcome(*judged(run), time.monotonic() - began)


def failing_without_fault(mutants: Sequence[Mutant]) -> list[str]:
    """The tests that fail on the code as it is: they would catch anything."""
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
    with copy_of_checkout() as folder:
        run = run_tests(folder, list(tests))
    if run.code == 0:
        return []
    return [*run.failures, *run.errors] or [f"pytest ended with {run.code}: {run.last_line}"]


def judged(run: Run) -> tuple[str, str]:
    """Verdict and what was said. Only a failed test is a catch: a fixture that breaks says nothing of the fault."""
    if run.code == TESTS_FAILED and run.failures and not run.errors:
        return CAUGHT, run.failures[0]
    if run.code == 0:
        return (NOT_CAUGHT, "its tests pass") if run.passed else (SKIPPED, "a server is in TAILRACE_SKIP_SERVERS")
    return BROKEN, (*run.errors, f"pytest ended with {run.code}: {run.last_line}")[0]


def run_tests(folder: Path, tests: Sequence[str], *options: str) -> Run:
    report = folder / "outcome.xml"
    words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *options]
    words += ["--timeout", str(TEST_SECONDS), "--junitxml", str(report), *tests]
    paths = os.pathsep.join(str(folder / part) for part in (*PRODUCT, ""))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Run(-1, 0, (), (), f"stopped after {RUN_SECONDS} s")
    lines = (ended.stdout + ended.stderr).strip().splitlines()
    return read_report(ended.returncode, report, lines[-1] if lines else "")


def read_report(code: int, report: Path, last_line: str) -> Run:
    if not report.exists():
        return Run(code, 0, (), (), last_line)
    cases = list(ElementTree.parse(report).iter("testcase"))
    failures, errors = (tuple(_said(case, kind) for case in cases if case.find(kind) is not None) for kind in _KINDS)
    passed = sum(all(case.find(kind) is None for kind in (*_KINDS, "skipped")) for case in cases)
    return Run(code, passed, failures, errors, last_line)


_KINDS = ("failure", "error")


def _said(case: ElementTree.Element, kind: str) -> str:
    found = case.find(kind)
    message = "" if found is None else found.get("message") or ""
    return f"{case.get('name')}: {message.strip().partition(chr(10))[0]}"
