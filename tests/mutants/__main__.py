"""`python -m mutants [NAME…]`: plant each fault of tests/mutants/*.patch, or the named ones, and run its tests.

Ends with 0 when every fault is caught, and without planting any when a test fails on the code as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mutants.patches import Mutant, read_all
from mutants.runner import CAUGHT, Outcome, failing_without_fault, tried

SAID_WIDTH = 100


def main(words: Sequence[str]) -> int:
    given = _arguments(words)
    chosen = _chosen(given.names)
    if given.list:
        print("\n".join(f"{m.name:<36} {', '.join(m.violates)}: {m.what}" for m in chosen))
        return 0
    began = time.monotonic()
    if not given.no_control:
        print(f"the tests of {len(chosen)} faults, without any of them …", flush=True)
        if failing := failing_without_fault(chosen):
            print("they have to pass first:\n  " + "\n  ".join(failing))
            return 1
        print(f"they pass ({time.monotonic() - began:.0f} s)\n", flush=True)
    outcomes = {mutant: _told(mutant, tried(mutant)) for mutant in chosen}
    caught = sum(outcome.verdict == CAUGHT for outcome in outcomes.values())
    print(f"\n{caught} of {len(chosen)} faults caught, {time.monotonic() - began:.0f} s")
    if given.json:
        told = [{"name": m.name, "what": m.what, "violates": m.violates, **asdict(o)} for m, o in outcomes.items()]
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0 if caught == len(chosen) else 1


def _told(mutant: Mutant, outcome: Outcome) -> Outcome:
    """One line; of a fault that was not caught, also what it is."""
    said = outcome.said if len(outcome.said) <= SAID_WIDTH else outcome.said[: SAID_WIDTH - 1] + "…"
    print(f"{mutant.name:<36} {outcome.verdict:<14} {outcome.seconds:5.1f} s  {said}", flush=True)
    if outcome.verdict != CAUGHT:
        print(f"    {mutant.what} ({', '.join(mutant.violates)})", flush=True)
        print("".join(f"    {test}\n" for test in mutant.tests), end="", flush=True)
    return outcome


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutants", description="Plant known faults; each must be caught.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these: the patch's file name, without .patch")
    parser.add_argument("--list", action="store_true", help="say what each fault is, run nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes to FILE")
    parser.add_argument("--no-control", action="store_true", help="do not run the tests without a fault first")
    return parser.parse_args(words)


def _chosen(names: Sequence[str]) -> list[Mutant]:
    found = {mutant.name: mutant for mutant in read_all()}
    if unknown := [name for name in names if name not in found]:
        sys.exit(f"no patch {', '.join(unknown)}; there are: {', '.join(found)}")
    return [found[name] for name in names or found]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
