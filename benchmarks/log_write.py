"""How fast log transactions are written and read back: `python benchmarks/log_write.py FOLDER | kafka://HOST:PORT`.

Events of 190 bytes on 4 partitions, in log transactions of 20,000, 2,000 and 20. Prints events a second, milliseconds
a log transaction (p50, p99) and CPU microseconds an event of this process.
"""

from __future__ import annotations

import argparse
import itertools
import random
import secrets
import time
from pathlib import Path

from librt.strings import BytesWriter

from tailrace_log.embedded import EmbeddedLog
from tailrace_log.log import Batch, CommitRecord, EventLog, LogReader, LogWriter
from tailrace_schemas.wire import is_compiled, put_frame

PARTITIONS = 4
EVENT_BYTES = 190
SIZES = ((20_000, 60), (2_000, 200), (20, 300))  # events in a log transaction, log transactions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", help="a folder for an embedded log, or kafka://host:port")
    log = make_log(parser.parse_args().place, f"bench{secrets.token_hex(4)}")
    topic = f"{log.prefix}.public.t"
    writer, reader = log.writer("bench", ["replica"]), log.reader()
    writer.open()
    writer.ensure_topics({topic: PARTITIONS})
    print(f"codecs {'compiled' if is_compiled() else 'interpreted'}")
    numbers = itertools.count()
    for events, times in SIZES:
        batches = make_batches(topic, events)
        first = write(writer, reader, batches, itertools.islice(numbers, times))
        read(reader, batches, first, times)
    reader.close()
    writer.close()
    log.close()


def make_log(place: str, prefix: str) -> EventLog:
    if not place.startswith("kafka://"):
        return EmbeddedLog(Path(place) / f"{prefix}.db", prefix, PARTITIONS)
    from tailrace_log.kafka import KafkaLog
    from tailrace_log.kafka_settings import KafkaSettings
    from tailrace_log.registry import RegistrySettings

    brokers = tuple(place.removeprefix("kafka://").split(","))
    return KafkaLog(KafkaSettings(brokers, prefix, RegistrySettings("http://127.0.0.1:1"), PARTITIONS))


def make_batches(topic: str, events: int) -> list[Batch]:
    chance = random.Random(1)
    out: list[Batch] = []
    for partition in range(PARTITIONS):
        frames = BytesWriter()
        for _ in range(events // PARTITIONS):
            key = b"\0\0\0\0\1" + chance.randbytes(4)
            value = b"\0\0\0\0\2" + chance.randbytes(40) + b"customer name and address here " * 5
            put_frame(frames, key, value[: EVENT_BYTES - len(key)])
        out.append(Batch(topic, partition, events // PARTITIONS, frames.getvalue()))
    return out


def write(writer: LogWriter, reader: LogReader, batches: list[Batch], numbers: itertools.islice[int]) -> int:
    """Write one log transaction for each number; the first number."""
    events = sum(batch.count for batch in batches)
    took: list[float] = []
    cpu, begun, seqs = time.process_time(), time.perf_counter(), list[int]()
    for seq in numbers:
        started = time.perf_counter()
        writer.write(batches, CommitRecord(seq, "bench", "stream", {}, f"{seq}", load_full=seq % 50 == 0))
        took.append(time.perf_counter() - started)
        seqs.append(seq)
        reader.applied("replica", seq - 100)
    seconds, cpu, took = time.perf_counter() - begun, time.process_time() - cpu, sorted(took)
    total = events * len(took)
    print(
        f"write {events:>6} events: {total / seconds:>9,.0f} events/s, p50 {1e3 * took[len(took) // 2]:.1f} ms,"
        f" p99 {1e3 * took[len(took) * 99 // 100]:.1f} ms, CPU {1e6 * cpu / total:.2f} us an event"
    )
    return seqs[0]


def read(reader: LogReader, batches: list[Batch], first: int, times: int) -> None:
    """Read back what was not trimmed meanwhile."""
    events = sum(batch.count for batch in batches)
    after = first + max(0, times - 100) - 1
    cpu, begun, found = time.process_time(), time.perf_counter(), 0
    while after < first + times - 1:
        for record in reader.commits(after, 100, 30):
            assert reader.read(record) == batches
            found, after = found + events, record.seq
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(f"read  {events:>6} events: {found / seconds:>9,.0f} events/s, CPU {1e6 * cpu / found:.2f} us an event")


if __name__ == "__main__":
    main()
