"""A sink in a process of its own, for tests that kill it: LOG_PATH TARGET_URL LAST_SEQ ROWS [CONNECTIONS of consistency key [ON_ROW_ERROR]]."""

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.topic import commit_topic
from tailrace_schemas.uri import parse_database_url
from tailrace_sinks import mysql, postgres
from tailrace_sinks.batch import Limits
from tailrace_sinks.service import run_sink
from tailrace_sinks.sink import SinkConfig
from tailrace_sinks.status import SinkStatus


def main(path: str, target: str, last: str, rows: str, connections: str = "0", on_row_error: str = "stop") -> None:
    log = EmbeddedLog(Path(path), "conform")
    url = parse_database_url(target)
    word: Literal["stop", "dead_letter"] = "stop" if on_row_error == "stop" else "dead_letter"
    config = SinkConfig("shop", "replica", commit_topic(log.prefix), log.log_id, on_row_error=word)
    if connections != "0":
        config = replace(config, consistency="key", connections=int(connections))
    module = postgres if url.engine == "postgresql" else mysql
    sink = module.open_sink(url, config)
    try:
        run_sink(
            log,
            sink,
            name="replica",
            stop=threading.Event(),
            status=SinkStatus("replica"),
            until=lambda record: record.seq >= int(last),
            first_connect_seconds=10,
            limits=Limits(rows=int(rows)),
        )
    finally:
        sink.close()
        log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
