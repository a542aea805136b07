"""What every test has: the fixtures of the fix_* modules and one random seed for the whole run."""

import os
import secrets

import pytest

pytest_plugins = ["fix_servers", "cases.plugin"]

SEED = "TAILRACE_TEST_SEED"


def pytest_configure() -> None:
    """Choose the seed before workers start, which inherit it with the environment."""
    os.environ.setdefault(SEED, str(secrets.randbelow(2**31)))


def pytest_report_header() -> str:
    """Name the seed before the first test, in case the run never gets to its end."""
    return f"random seed: {SEED}={os.environ[SEED]}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the seed of a failed run also where the header is not shown (-q)."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"random seed: {SEED}={os.environ[SEED]}")


@pytest.fixture(scope="session")
def seed() -> int:
    """The run's seed; a test mixes in what it is about: `Random(f"{seed} money")`."""
    return int(os.environ[SEED])
