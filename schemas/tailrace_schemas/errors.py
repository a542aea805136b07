"""One tree of errors, sorted by what the caller does next.

TailraceError                    code, message, detail, hint, table, position
├── ConfigError                  do not start; the user fixes it
│   ├── PreflightError           carries every finding at once
│   └── RefusedError             a server refuses the login: later, when it was accepted before, worth another try
├── RetryableError               same work again after a pause
│   ├── SourceUnavailableError
│   ├── LogUnavailableError
│   ├── TargetUnavailableError
│   ├── FencedError              another process has taken over: read everything again
│   └── OutcomeUnknownError      it may have happened: the same work again, decided by what is stored
├── EventError                   this event only: set aside or stop
│   ├── DecodeError
│   ├── ConversionError
│   └── RowRejectedError
├── StopError                    a person is needed: this table, sink or pipeline stops, position kept
│   └── TableStopError           only this table stops
├── PositionLostError            history is gone; a new snapshot is due
└── InvariantError               a bug of ours: stop, never retry

`message` says what could not be done, `detail` what was met, `hint` the statement or act that fixes it. None of them
ever holds a row's values or a password. `policy` is the one table from error to act; unknown means stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal

from tailrace_schemas.table import TableId

# The hint of whatever cannot go on from where it stands; docs/errors.md has its steps.
LOAD_AGAIN = "tailrace drop, empty the tables at the target, then tailrace run for a new load"
# What follows where one table stopped.
TABLE_AGAIN = "then start again: the table is loaded anew"


class TailraceError(Exception):
    """Base of all. `code` is a stable word in capitals, listed in docs/errors.md."""

    default_code: ClassVar[str] = "ERROR"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        detail: str = "",
        hint: str = "",
        table: TableId | None = None,
        column: str | None = None,
        position: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.detail = detail
        self.hint = hint
        self.table = table
        self.column = column
        self.position = position

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.message}"]
        if self.detail:
            parts.append(f"detail: {self.detail}")
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


class ConfigError(TailraceError):
    default_code = "CONFIG"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of preflight. `remedy` is the exact statement, GRANT or setting that clears it."""

    level: Literal["error", "warning"]
    code: str
    message: str
    remedy: str = ""
    table: TableId | None = None


class PreflightError(ConfigError):
    default_code = "PREFLIGHT"

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(f"{sum(f.level == 'error' for f in findings)} preflight findings of level error")
        self.findings = findings


class RefusedError(ConfigError):
    """A server answers and does not let us in. Before the first success the user's settings are wrong; a process that
    was let in before waits for whoever changed the server (a new password, a rule), and tries again."""

    default_code = "REFUSED"


class RetryableError(TailraceError):
    default_code = "RETRY"


class SourceUnavailableError(RetryableError):
    default_code = "SOURCE_UNAVAILABLE"


class LogUnavailableError(RetryableError):
    default_code = "LOG_UNAVAILABLE"


class TargetUnavailableError(RetryableError):
    default_code = "TARGET_UNAVAILABLE"


class FencedError(RetryableError):
    default_code = "FENCED"


class OutcomeUnknownError(RetryableError):
    default_code = "OUTCOME_UNKNOWN"


class EventError(TailraceError):
    default_code = "EVENT"


class DecodeError(EventError):
    default_code = "DECODE"


class ConversionError(EventError):
    default_code = "CONVERSION"


class RowRejectedError(EventError):
    """`event_index`: which event of the batch, 0-based, where the target tells; else None."""

    default_code = "ROW_REJECTED"
    event_index: int | None = None


class StopError(TailraceError):
    default_code = "STOP"


class TableStopError(StopError):
    default_code = "TABLE_STOP"


class PositionLostError(TailraceError):
    default_code = "LOG_LOST"


class InvariantError(TailraceError):
    default_code = "INVARIANT"


class Act(Enum):
    RETRY = "retry"
    SET_ASIDE = "set aside"
    STOP = "stop"


_POLICY: tuple[tuple[type[TailraceError], Act], ...] = ((RetryableError, Act.RETRY), (EventError, Act.SET_ASIDE))


def policy(error: BaseException) -> Act:
    """What the process does with an error. SET_ASIDE means: by the sink's `on_row_error`, dead letter or stop."""
    for kind, act in _POLICY:
        if isinstance(error, kind):
            return act
    return Act.STOP


EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_PREFLIGHT, EXIT_DIFFERENT, EXIT_POSITION_LOST = 0, 1, 2, 3, 4, 5


def exit_code(error: BaseException) -> int:
    """The documented exit code of a command that ends with this error."""
    if isinstance(error, PreflightError):
        return EXIT_PREFLIGHT
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    if isinstance(error, PositionLostError):
        return EXIT_POSITION_LOST
    return EXIT_ERROR
