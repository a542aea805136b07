"""The README of the command names every command, flag, exit code, metric and file of the code, and nothing else."""

import re
from pathlib import Path

import typer.main

from tailrace.cli import app
from tailrace_schemas import errors
from tailrace_schemas.metrics import METRICS

FOLDER = Path(__file__).parents[3] / "tailrace"
README = (FOLDER / "README.md").read_text()


def test_commands_are_named() -> None:
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback is not None}
    groups = {group.name for group in app.registered_groups}
    assert set(re.findall(r"^tailrace (\w[\w-]*)", README, re.MULTILINE)) == commands | groups


def test_flags_of_run_are_named() -> None:
    (run,) = [command for command in typer.main.get_group(app).commands.values() if command.name == "run"]
    flags = {flag for parameter in run.params for flag in parameter.opts if flag.startswith("--")} - {"--help"}
    table = "\n".join(line for line in README.splitlines() if line.startswith("| `--"))
    assert set(re.findall(r"--[a-z-]+", table)) == flags


def test_exit_codes_are_named() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")} | {130}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)} == codes


def test_metrics_are_named_with_their_labels_and_meaning() -> None:
    expected = {
        f"| `{metric.name}{'_total' if metric.kind == 'counter' else ''}` | {', '.join(metric.labels)}".rstrip()
        + f" | {metric.meaning} |"
        for metric in METRICS
    }
    assert set(re.findall(r"^\| `tailrace_.*$", README, re.MULTILINE)) == expected


def test_files_are_named() -> None:
    files = {path.name for path in FOLDER.glob("*.py")} - {"__init__.py", "__main__.py", "schema_file.py"}
    assert set(re.findall(r"`(\w+\.py)`", README)) == files
