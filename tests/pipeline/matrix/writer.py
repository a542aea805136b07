"""A writer process: runs the traffic of one writer at a steady pace until its stdin ends, then prints what it did.

`python -m pipeline.matrix.writer '{"side": …, "seed": …, …}'`; see `Order` for the words. It prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

from pipeline.matrix.engine import RetryTransactionError, Session, Side
from pipeline.matrix.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Order:
    """`rate`: how many rows to change a second; `rows`: how many the tables were filled with."""

    side: Side
    seed: int
    writer: int
    writers: int
    rows: int
    rate: float


def write(order: Order, stop: threading.Event) -> Counter[str]:
    """Run transactions until told to stop; what was done, by kind."""
    traffic = Traffic(order.side.dialect, order.seed, order.writer, order.writers, order.rows)
    done: Counter[str] = Counter()
    began = time.monotonic()
    with order.side.session() as session:
        while not stop.is_set():
            transaction = traffic.next()
            done["retries"] += _run(session, transaction.text)
            done.update(transaction.done)
            done["changes"] += transaction.changes
            ahead = began + done["changes"] / order.rate - time.monotonic()
            stop.wait(max(ahead, 0))
    done["milliseconds"] = round((time.monotonic() - began) * 1000)
    return done


def _run(session: Session, text: str) -> int:
    """How often it had to be tried again."""
    tried = 0
    while True:
        try:
            session.run(text)
        except RetryTransactionError:
            tried += 1
        else:
            return tried


def _stop_with_stdin() -> threading.Event:
    stop = threading.Event()

    def read() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=read, daemon=True).start()
    return stop


if __name__ == "__main__":
    words = json.loads(sys.argv[1])
    print(json.dumps(write(Order(**words | {"side": Side(**words["side"])}), _stop_with_stdin())))
