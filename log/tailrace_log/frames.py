"""Records of one topic on their way into a log transaction: frames, gathered by partition.

Compiled with mypyc. A codec appends; the publisher takes. Partition of a key: murmur2 over the Avro key without its
5-byte header (`fields`, so that a new key schema id does not move a key) or with it (`key_bytes`, the Java client's way).
"""

from librt.strings import BytesWriter
from mypy_extensions import i64
from tailrace_schemas.wire import murmur2, put_frame, put_frame_with_header


class TopicBuffer:
    """Frames of one topic since the last `take`. `keyless` records all go to the partition of the topic name's hash."""

    def __init__(self, topic: str, partitions: int, keyless: bool, key_bytes: bool = False) -> None:
        self.topic = topic
        self.partitions: i64 = partitions
        self.hash_from: i64 = 0 if key_bytes else 5
        self.fixed: i64 = murmur2(topic.encode(), 0) % partitions if keyless else -1
        self.writers: list[BytesWriter] = [BytesWriter() for _ in range(partitions)]
        self.counts: list[int] = [0] * partitions
        self.size: i64 = 0

    def partition_of(self, key: bytes | None) -> i64:
        if self.fixed >= 0:
            return self.fixed
        if self.partitions == 1 or key is None:
            return 0
        return murmur2(key, self.hash_from) % self.partitions

    def append(self, key: bytes | None, value: bytes | None) -> None:
        p: i64 = self.partition_of(key)
        w = self.writers[p]
        put_frame(w, key, value)
        self.counts[p] += 1
        self.size += 9 + (0 if key is None else len(key)) + (0 if value is None else len(value))

    def append_with_header(self, key: bytes | None, value: bytes | None, name: bytes, content: bytes) -> None:
        p: i64 = self.partition_of(key)
        put_frame_with_header(self.writers[p], key, value, name, content)
        self.counts[p] += 1
        self.size += 9 + (0 if key is None else len(key)) + (0 if value is None else len(value))

    def counts_now(self) -> dict[int, int]:
        """Records so far by partition: where a marker set now takes effect."""
        return dict(enumerate(self.counts))

    def take(self) -> list[tuple[int, int, bytes]]:
        """(partition, count, frames) of every partition that has any; the buffer is empty afterwards."""
        out: list[tuple[int, int, bytes]] = []
        if self.size == 0:
            return out
        p: i64 = 0
        while p < self.partitions:
            count = self.counts[p]
            if count:
                out.append((int(p), count, self.writers[p].getvalue()))
                self.writers[p] = BytesWriter()
                self.counts[p] = 0
            p += 1
        self.size = 0
        return out
