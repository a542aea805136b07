"""The planted faults fit the code as it is now, and the runner calls only a failed test a catch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mutants.patches import FOLDER, ROOT, PatchError, apply, read, read_all
from mutants.runner import BROKEN, CAUGHT, NOT_CAUGHT, SKIPPED, judged, read_report

NAMES = sorted(path.stem for path in FOLDER.glob("*.patch"))


def test_there_are_faults_of_every_part_of_the_way() -> None:
    parts = [file.split("/")[0] for mutant in read_all() for file in mutant.files]
    assert len(NAMES) >= 20
    assert min(parts.count(part) for part in ("capture", "log", "sinks")) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_can_be_planted_in_the_code_as_it_is(name: str, tmp_path: Path) -> None:
    mutant = read(FOLDER / f"{name}.patch")
    for file in mutant.files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    apply(mutant, tmp_path)
    for file in mutant.files:
        text = (tmp_path / file).read_text()
        assert text != (ROOT / file).read_text()
        compile(text, file, "exec")


@pytest.mark.parametrize("name", NAMES)
def test_the_tests_that_must_see_a_fault_exist(name: str) -> None:
    for test in read(FOLDER / f"{name}.patch").tests:
        file, _, function = test.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / file).read_text()


def test_a_patch_that_does_not_fit_is_named(tmp_path: Path) -> None:
    mutant = read(FOLDER / f"{NAMES[0]}.patch")
    for file in mutant.files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("another text\n")
    with pytest.raises(PatchError, match="does not apply"):
        apply(mutant, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "--- a/log/x.py\n+++ b/log/x.py\n",
        "Breaks it.\nviolates: rule A1\n\n--- a/log/x.py\n+++ b/log/x.py\n",
        "Breaks it.\ntest: tests/a.py::test_b\n\n--- a/log/x.py\n+++ b/log/x.py\n",
        "Breaks a test.\nviolates: rule A1\ntest: tests/a.py::test_b\n\n--- a/tests/a.py\n+++ b/tests/a.py\n",
    ],
)
def test_a_patch_without_its_head_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.patch"
    path.write_text(text)
    with pytest.raises(PatchError, match=r"x\.patch"):
        read(path)


CASES = {
    "passed": "<testcase name='a'/>",
    "failed": "<testcase name='a'/><testcase name='b'><failure message='assert 1 == 2&#10; + more'/></testcase>",
    "fixture": "<testcase name='a'><error message='no server'/></testcase>",
    "skipped": "<testcase name='a'><skipped/></testcase>",
    "none": "",
}


@pytest.mark.parametrize(
    ("cases", "code", "verdict", "said"),
    [
        ("failed", 1, CAUGHT, "b: assert 1 == 2"),
        ("passed", 0, NOT_CAUGHT, "its tests pass"),
        ("skipped", 0, SKIPPED, "a server is in TAILRACE_SKIP_SERVERS"),
        ("fixture", 1, BROKEN, "a: no server"),
        ("none", 5, BROKEN, "pytest ended with 5: no tests ran"),
        ("none", 4, BROKEN, "pytest ended with 4: no tests ran"),
        ("passed", 2, BROKEN, "pytest ended with 2: no tests ran"),
    ],
)
def test_only_a_failed_test_is_a_catch(cases: str, code: int, verdict: str, said: str, tmp_path: Path) -> None:
    report = tmp_path / "outcome.xml"
    report.write_text(f"<testsuites><testsuite>{CASES[cases]}</testsuite></testsuites>")
    assert judged(read_report(code, report, "no tests ran")) == (verdict, said)
