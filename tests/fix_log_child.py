"""Child processes of the embedded log's tests: a writer to be killed and a reader that watches it.

    python fix_log_child.py write PATH LAST     one line `<seq>` on stdout for every acknowledged log transaction
    python fix_log_child.py read PATH LAST      checks every log transaction up to LAST, then prints `seen`
    python fix_log_child.py fill PATH RESERVE   on a small disk: writes until it is full, frees space, checks all

What log transaction N holds is a function of N, so whoever reads it knows what must be there.
"""

import random
import sys
from pathlib import Path

from librt.strings import BytesWriter

from tailrace_log.embedded import EmbeddedLog, EmbeddedWriter
from tailrace_log.log import Batch, CommitRecord, Marker
from tailrace_schemas.errors import LogUnavailableError
from tailrace_schemas.wire import put_frame

TOPICS = ("crash.public.a", "crash.public.b")
PARTITIONS = 2
SINK = "watcher"


def batches_of(seq: int) -> list[Batch]:
    chance = random.Random(seq)
    places = [(topic, partition) for topic in TOPICS for partition in range(PARTITIONS)]
    return [_batch(chance, topic, partition) for topic, partition in chance.sample(places, chance.randint(0, 4))]


def _batch(chance: random.Random, topic: str, partition: int) -> Batch:
    out = BytesWriter()
    # Some far larger than a page of the file, some smaller, half of it incompressible.
    count = chance.choice((1, 3, 40, 400))
    for number in range(count):
        put_frame(out, b"%d" % number, chance.randbytes(chance.randint(0, 300)) + b"." * 200)
    return Batch(topic, partition, count, out.getvalue())


def record_of(seq: int) -> CommitRecord:
    marker = Marker("schema", "public", "a", TOPICS[0], {0: 0})
    return CommitRecord(
        seq, "crash", "stream", {}, f"{seq}", markers=(marker,), load_full=seq % 10 == 0, written_ms=seq
    )


def write(path: Path, last: int) -> None:
    log = EmbeddedLog(path, "crash", PARTITIONS)
    writer = log.writer("crash", [SINK])
    known = writer.open()
    writer.ensure_topics(dict.fromkeys(TOPICS, PARTITIONS))
    for seq in range(known[-1].seq + 1 if known else 0, last + 1):
        writer.write(batches_of(seq), record_of(seq))
        print(seq, flush=True)


def read(path: Path, last: int) -> None:
    log = EmbeddedLog(path, "crash", PARTITIONS)
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


def fill(path: Path, reserve: int) -> None:
    """Without a reserve the disk is really full and a person frees space; with one the sink's progress does."""
    ballast = path.with_name("ballast")
    ballast.write_bytes(bytes(24 << 20))
    log = EmbeddedLog(path, "crash", PARTITIONS, reserve_bytes=reserve)
    writer, reader = log.writer("crash", [SINK]), log.reader()
    writer.open()
    writer.ensure_topics(dict.fromkeys(TOPICS, PARTITIONS))
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
    {"write": write, "read": read, "fill": fill}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
