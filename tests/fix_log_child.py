"""Child processes of the logs' tests: a writer to be killed or frozen and a reader that watches it.

PATH is that of an embedded log, or kafka://host:port with the prefix in CRASH_PREFIX.

    python fix_log_child.py write PATH LAST     one line `<seq>` on stdout for every acknowledged log transaction
    python fix_log_child.py read PATH LAST      checks every log transaction up to LAST, then prints `seen`
    python fix_log_child.py fill PATH RESERVE   on a small disk: writes until it is full, frees space, checks all

What log transaction N holds is a function of N, so whoever reads it knows what must be there.
"""

import os
import random
import sys
from pathlib import Path

from librt.strings import BytesWriter

from tailrace_log.embedded import EmbeddedLog, EmbeddedWriter
from tailrace_log.log import Batch, CommitRecord, EventLog, Marker
from tailrace_schemas.errors import LogUnavailableError
from tailrace_schemas.wire import put_frame

PREFIX = "crash"
PARTITIONS = 2
SINK = "watcher"


def topics_of(prefix: str = PREFIX) -> tuple[str, str]:
    return f"{prefix}.public.a", f"{prefix}.public.b"


def batches_of(seq: int, prefix: str = PREFIX) -> list[Batch]:
    chance = random.Random(seq)
    places = [(topic, partition) for topic in topics_of(prefix) for partition in range(PARTITIONS)]
    return [_batch(chance, topic, partition) for topic, partition in chance.sample(places, chance.randint(0, 4))]


def _batch(chance: random.Random, topic: str, partition: int) -> Batch:
    out = BytesWriter()
    # Some far larger than a page of the file, some smaller, half of it incompressible.
    count = chance.choice((1, 3, 40, 400))
    for number in range(count):
        put_frame(out, b"%d" % number, chance.randbytes(chance.randint(0, 300)) + b"." * 200)
    return Batch(topic, partition, count, out.getvalue())


def record_of(seq: int, prefix: str = PREFIX) -> CommitRecord:
    marker = Marker("schema", "public", "a", topics_of(prefix)[0], {0: 0})
    return CommitRecord(
        seq, "crash", "stream", {}, f"{seq}", markers=(marker,), load_full=seq % 10 == 0, written_ms=seq
    )


def open_log(place: str) -> EventLog:
    if not place.startswith("kafka://"):
        return EmbeddedLog(Path(place), PREFIX, PARTITIONS)
    from fix_kafka import kafka_settings

    from tailrace_log.kafka import KafkaLog

    return KafkaLog(kafka_settings(place.removeprefix("kafka://"), os.environ["CRASH_PREFIX"]))


def write(place: str, last: int) -> None:
    log = open_log(place)
    writer = log.writer("crash", [SINK])
    known = writer.open()
    writer.ensure_topics(dict.fromkeys(topics_of(log.prefix), PARTITIONS))
    for seq in range(known[-1].seq + 1 if known else 0, last + 1):
        writer.write(batches_of(seq, log.prefix), record_of(seq, log.prefix))
        print(seq, flush=True)


def read(place: str, last: int) -> None:
    log = open_log(place)
    reader = log.reader()
    after = -1
    while after < last:
        for record in reader.commits(after, 10, 60):
            assert record.seq == after + 1
            assert reader.read(record) == batches_of(record.seq), f"log transaction {record.seq} is not whole"
            after = record.seq
        reader.applied(SINK, after - 20)
    print("seen", flush=True)
    reader.close()
    log.close()


def fill(place: str, reserve: int) -> None:
    """Without a reserve the disk is really full and a person frees space; with one the sink's progress does."""
    path = Path(place)
    ballast = path.with_name("ballast")
    ballast.write_bytes(bytes(24 << 20))
    log = EmbeddedLog(path, PREFIX, PARTITIONS, reserve_bytes=reserve)
    writer, reader = log.writer("crash", [SINK]), log.reader()
    writer.open()
    writer.ensure_topics(dict.fromkeys(topics_of(), PARTITIONS))
    full_at = _write_until_full(writer, 0)
    assert full_at > 5
    if reserve:
        reader.applied(SINK, full_at - 2)
    else:
        ballast.unlink()
    for seq in range(full_at, full_at + 20):
        writer.write(batches_of(seq), record_of(seq))
    records = reader.commits(full_at - 2 if reserve else -1, 10_000, 1)
    assert records[-1].seq == full_at + 19
    assert all(reader.read(record) == batches_of(record.seq) for record in records)
    print("full, freed, whole", flush=True)
    reader.close()
    writer.close()
    log.close()


def _write_until_full(writer: EmbeddedWriter, seq: int) -> int:
    """The first log transaction that found no room."""
    while True:
        try:
            writer.write(batches_of(seq), record_of(seq))
        except LogUnavailableError as error:
            assert error.code == "LOG_FULL", error
            return seq
        seq += 1


if __name__ == "__main__":
    {"write": write, "read": read, "fill": fill}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
