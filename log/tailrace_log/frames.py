"""Records of one topic on their way into a log transaction: frames, gathered by partition.

Compiled with mypyc. A codec appends; the feed takes. Partition of a key: murmur2 over the Avro key without its
5-byte header (so that a new key schema id does not move a key), or with it (`key_bytes`, the Java client's way).
"""

from librt.strings import BytesWriter
from mypy_extensions import i64

from tailrace_schemas.wire import murmur2, put_frame, put_frame_with_header


class Clock:
    """Shared by all buffers of a capture: the serial number of the source transaction being read, how many bytes wait
    in all buffers, and which buffers have any."""

    def __init__(self) -> None:
        self.transaction: i64 = 0
        self.size: i64 = 0
        self.filled: list[TopicBuffer] = []
        self.in_transaction: list[TopicBuffer] = []

    def counts_in_transaction(self) -> list[tuple[str, int]]:
        """(topic, events so far) of every table the current source transaction has changed."""
        return [
            (buffer.topic, int(buffer.in_transaction))
            for buffer in self.in_transaction
            if buffer.transaction == self.transaction
        ]

    def take(self, before_transaction: bool) -> list[tuple[str, int, int, bytes]]:
        """(topic, partition, count, frames) of everything that waits, or of what stands before the transaction."""
        out: list[tuple[str, int, int, bytes]] = []
        filled = self.filled
        self.filled = []
        for buffer in filled:
            parts = buffer.take_before_transaction() if before_transaction else buffer.take()
            for partition, count, frames in parts:
                out.append((buffer.topic, partition, count, frames))
            if buffer.size:
                self.filled.append(buffer)
        return out


class TopicBuffer:
    """Frames of one topic since the last `take`, split on demand where the current source transaction began.

    `judged`: the table is being loaded, so a codec asks before it appends (rule B1). `table`: what the codec's owner
    wants to find again from here. `keyless` records all go to the partition of the topic name's hash.
    """

    def __init__(
        self, topic: str, partitions: int, keyless: bool, clock: Clock, table: object = None, key_bytes: bool = False
    ) -> None:
        self.topic = topic
        self.table = table
        self.judged = False
        self.partitions: i64 = partitions
        self.hash_from: i64 = 0 if key_bytes else 5
        self.fixed: i64 = murmur2(topic.encode(), 0) % partitions if keyless else -1
        self.writers: list[BytesWriter] = [BytesWriter() for _ in range(partitions)]
        self.counts: list[int] = [0] * partitions
        self.size: i64 = 0
        self.clock = clock
        self.transaction: i64 = 0
        self.records_before: list[int] = [0] * partitions
        self.bytes_before: list[int] = [0] * partitions
        self.in_transaction: i64 = 0

    def partition_of(self, key: bytes | None) -> i64:
        if self.fixed >= 0:
            return self.fixed
        if self.partitions == 1 or key is None:
            return 0
        return murmur2(key, self.hash_from) % self.partitions

    def _meet(self) -> None:
        """Remember where a new source transaction begins; count the records in it from 0."""
        clock = self.clock
        if clock.in_transaction and clock.in_transaction[0].transaction != clock.transaction:
            clock.in_transaction = []
        self.transaction = clock.transaction
        clock.in_transaction.append(self)
        self.in_transaction = 0
        p: i64 = 0
        while p < self.partitions:
            self.records_before[p] = self.counts[p]
            self.bytes_before[p] = len(self.writers[p])
            p += 1

    def next_in_transaction(self) -> i64:
        """1, 2, 3 … for the events of this table in the current source transaction (data_collection_order)."""
        if self.transaction != self.clock.transaction:
            self._meet()
        self.in_transaction += 1
        return self.in_transaction

    def append(self, key: bytes | None, value: bytes | None) -> None:
        if self.transaction != self.clock.transaction:
            self._meet()
        p: i64 = self.partition_of(key)
        put_frame(self.writers[p], key, value)
        self._count(p, 9 + (0 if key is None else len(key)) + (0 if value is None else len(value)))

    def _count(self, p: i64, size: i64) -> None:
        self.counts[p] += 1
        if self.size == 0:
            self.clock.filled.append(self)
        self.size += size
        self.clock.size += size

    def append_with_header(self, key: bytes | None, value: bytes | None, name: bytes, content: bytes) -> None:
        if self.transaction != self.clock.transaction:
            self._meet()
        p: i64 = self.partition_of(key)
        put_frame_with_header(self.writers[p], key, value, name, content)
        size: i64 = 14 + len(name) + len(content)
        self._count(p, size + (0 if key is None else len(key)) + (0 if value is None else len(value)))

    def set_keyless(self, keyless: bool) -> None:
        """The table has lost its key, or got one. Records already here keep their partition."""
        self.fixed = murmur2(self.topic.encode(), 0) % self.partitions if keyless else -1

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
            self.records_before[p] = 0
            self.bytes_before[p] = 0
            p += 1
        self.clock.size -= self.size
        self.size = 0
        return out

    def take_before_transaction(self) -> list[tuple[int, int, bytes]]:
        """As `take`, but only what earlier source transactions left; records of the current one stay (rule C3)."""
        if self.transaction != self.clock.transaction:
            return self.take()
        out: list[tuple[int, int, bytes]] = []
        p: i64 = 0
        while p < self.partitions:
            count = self.records_before[p]
            if count:
                data = self.writers[p].getvalue()
                cut = self.bytes_before[p]
                out.append((int(p), count, data[:cut]))
                w = BytesWriter()
                w.write(data[cut:])
                self.writers[p] = w
                self.counts[p] -= count
                self.size -= cut
                self.clock.size -= cut
                self.records_before[p] = 0
                self.bytes_before[p] = 0
            p += 1
        return out
