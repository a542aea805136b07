"""The one place where errors end: every command and process runs inside `guarded`, which turns whatever happens into
a printed name, message, detail and hint, and an exit code. No traceback reaches the user; that of an unexpected error
is kept in a file of the state folder, for a report."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tailrace_schemas.errors import Finding, InvariantError, PreflightError, TailraceError, exit_code
from tailrace_schemas.uri import redact

log = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130

Report = Callable[[TailraceError], None]


def error_json(error: TailraceError) -> dict[str, Any]:
    """`message` = primary and detail, `remedy` = hint, as in `status --json`; `table`, `column`, `position` where there
    are any."""
    text = f"{error.message}: {error.detail}" if error.detail else error.message
    out: dict[str, Any] = {"code": error.code, "message": redact(text), "remedy": redact(error.hint)}
    if error.table is not None:
        out["table"] = str(error.table)
    out |= {word: text for word, text in (("column", error.column), ("position", error.position)) if text}
    if isinstance(error, PreflightError):
        out["findings"] = [finding_json(finding) for finding in error.findings]
    return out


def finding_json(finding: Finding) -> dict[str, Any]:
    out: dict[str, Any] = {
        "level": finding.level,
        "code": finding.code,
        "message": finding.message,
        "remedy": finding.remedy,
    }
    if finding.table is not None:
        out["table"] = str(finding.table)
    return out


def print_json(data: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def error_console() -> Console:
    """stderr, without the wrapping that would break a statement meant to be copied."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_findings(findings: list[Finding]) -> None:
    """Errors first; each with the statement that clears it, on lines of its own, to copy."""
    console = error_console()
    for finding in sorted(findings, key=lambda finding: finding.level != "error"):
        style = "bold red" if finding.level == "error" else "yellow"
        where = f" [{finding.table}]" if finding.table is not None else ""
        console.print(Text(f"{finding.level} {finding.code}{where}: ", style=style) + Text(finding.message))
        for line in finding.remedy.splitlines():
            console.print(Text(f"    {line}"))


def print_error(error: TailraceError) -> None:
    if isinstance(error, PreflightError):
        print_findings(error.findings)
    console = error_console()
    where = f" [{error.table}]" if error.table is not None else ""
    console.print(
        Text(f"{error.code}{where}: ", style="bold red") + Text(redact(error.message), style="default not bold")
    )
    for label, text in (("detail", error.detail), ("position", error.position or ""), ("hint", error.hint)):
        for at, line in enumerate(redact(text).splitlines()):
            console.print(Text(f"  {label}: " if at == 0 else " " * (len(label) + 4), style="dim") + Text(line))


def reporter(as_json: bool) -> Report:
    def report(error: TailraceError) -> None:
        print_error(error)
        if as_json:
            print_json({"error": error_json(error)})

    return report


def guarded(work: Callable[[], int], report: Report, crash_folder: Callable[[], Path | None] = lambda: None) -> int:
    """The exit code of `work`, whatever happens in it."""
    try:
        return work()
    except TailraceError as error:
        report(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has gone (`tailrace tail … | head`): nothing is wrong. Keep the exit silent as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  the one boundary of the process
        unexpected = _unexpected(error, crash_folder())
        report(unexpected)
        return exit_code(unexpected)


def _unexpected(error: Exception, folder: Path | None) -> InvariantError:
    text = "".join(traceback.format_exception(error))
    kept = ""
    if folder is not None and folder.is_dir():
        path = folder / f"crash-{os.getpid()}.txt"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        kept = f"; the traceback is in {path}"
    else:
        log.debug("%s", text)
    return InvariantError(
        f"unexpected {type(error).__name__}",
        detail=f"in {_place(error)}{kept}",
        hint="this is a bug of Tailrace: please report it with the traceback, after removing data from it",
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
