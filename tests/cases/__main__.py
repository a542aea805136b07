"""`python -m cases [FILE…]`: put the outcomes in each FILE, the later ones last, into docs/cases.json and write docs/cases.md anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cases.report import merged, read, write


def main(words: list[str]) -> None:
    report = merged(read(), [])
    for word in words:
        report = merged(report, json.loads(Path(word).read_text()))
    write(report)


if __name__ == "__main__":
    main(sys.argv[1:])
