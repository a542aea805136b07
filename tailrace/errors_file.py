"""Writes `docs/errors.md` from the catalogue of error codes: python -m tailrace.errors_file."""

from pathlib import Path

from tailrace_schemas.error_codes import CATALOGUE, KINDS, ErrorCode, Kind

ERRORS_FILE = Path(__file__).parents[1] / "docs" / "errors.md"

_HEAD = """\
# Errors

Made from `schemas/tailrace_schemas/error_codes.py` by `python -m tailrace.errors_file`.

Every error has a code, a message, and a hint: the statement that fixes it, with its true names. They are printed, and
stand in `tailrace status --json` and in what `--json` prints, with table, column and position where there are any. Here
`<…>` is to be filled in. A code stands under what it mostly comes as. At the first start, whatever refuses an end or
stops it is printed as a finding of `check`.

"Start again" is the command of before: `tailrace run …`, or `capture` and `sink`. In mode `cdc` nothing is loaded: a
table that stopped stays stopped, and the way on is a new load.

## A new load

Where log or target cannot be carried on, everything is loaded again:

1. `tailrace drop --name <name>` removes slot, publication, progress and the embedded log.
2. Empty the target's tables, `TRUNCATE TABLE <table>`: rows that the source no longer has would stay. Kafka keeps its
   topics: take another `prefix=` in the log's URI, or delete those of the old one.
3. `tailrace run …` as before.
"""


def text() -> str:
    return "\n".join([_HEAD, _index(), *(_section(kind) for kind in Kind)])


def write() -> None:
    ERRORS_FILE.write_text(text(), encoding="utf-8")


def anchor(word: str) -> str:
    """Of the code's heading, as GitHub makes it."""
    return word.lower()


def _codes(kind: Kind) -> list[ErrorCode]:
    return sorted((entry for entry in CATALOGUE if entry.kinds[0] is kind), key=lambda entry: entry.code)


def _index() -> str:
    lines = ["| what happens | codes |", "|---|---|"]
    for kind in Kind:
        links = " ".join(f"[{entry.code}](#{anchor(entry.code)})" for entry in _codes(kind))
        lines.append(f"| {kind.value} | {links} |")
    return "\n".join([*lines, ""])


def _section(kind: Kind) -> str:
    words = KINDS[kind]
    head = [
        f"## {kind.value}",
        "",
        words.happens,
        "",
        f"**Safe:** {words.safe}",
        "",
        f"**After the fix:** {words.then}",
        "",
    ]
    return "\n".join([*head, *(_entry(entry) for entry in _codes(kind))])


def _entry(entry: ErrorCode) -> str:
    also = f" Also as: {', '.join(kind.value.lower() for kind in entry.kinds[1:])}." if entry.kinds[1:] else ""
    lines = [f"### {entry.code}", "", entry.meaning + also, "", *(f"- {line}" for line in entry.fix.splitlines())]
    if entry.then:
        lines.append(f"- *then:* {entry.then}")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    write()
