"""Log lines on stderr, as text or JSON: time, level, process, fragment, fields. Never row values, never passwords."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from tailrace_schemas.uri import redact

Format = Literal["text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return redact(f"{at} {record.levelname.lower():7} {self._process}: {record.getMessage()}{fields}")


class JsonLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        data: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "message": record.getMessage(),
        }
        return redact(json.dumps(data | _fields(record), ensure_ascii=False, default=str))


def set_up(process: str, level: str, line_format: Format) -> None:
    """Send the log of this process to stderr. `level`: debug, info, warning or error."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines(process) if line_format == "json" else TextLines(process))
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
    logging.raiseExceptions = False  # a closed stderr must not end a process that still has data in hand
