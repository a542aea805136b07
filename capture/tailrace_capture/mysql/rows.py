"""Row events of the binary log and text result sets to Avro change events in frames.

Compiled with mypyc; the same file runs interpreted. Events are read at offsets into the received bytes; frames go
straight into the table's TopicBuffer. The envelope's order is that of `tailrace_schemas.avro.value_schema`.
Format of row events: MySQL source documentation, `Rows_event`.
"""

from collections.abc import Callable
from typing import Final
from zlib import crc32

from librt.strings import BytesWriter, read_i32_le
from mypy_extensions import i64, u8

from tailrace_capture.mysql.images import ImageReader, PartialImageError, Plan, TornRowError
from tailrace_capture.mysql.values import le
from tailrace_log.frames import TopicBuffer
from tailrace_schemas.wire import put_bytes, put_long

_C: Final = 99
_U: Final = 117
_D: Final = 100
_R: Final = 114
NEW_KEY: Final = b"__debezium.newkey"
OLD_KEY: Final = b"__debezium.oldkey"


class RowCoder:
    """Turns the rows of one stream (or of one load) into events.

    `head`: Avro strings version, connector, name of the source block. `decide`: see `Feed.decide`. `json_text`: binary
    JSON to UTF-8 text; `patch_json`: (binary JSON before, differences) to text. `lookup`: the plan of a TABLE_MAP body,
    None for a table that is not captured.
    """

    def __init__(
        self,
        head: bytes,
        lookup: Callable[[bytes], Plan | None],
        decide: Callable[[Plan, bytes | None], bool],
        json_text: Callable[[bytes], bytes],
        patch_json: Callable[[bytes, bytes], bytes],
    ) -> None:
        self.head = head
        self.lookup = lookup
        self.decide = decide
        self.values = ImageReader(json_text, patch_json)
        self.plans: dict[bytes, Plan | None] = {}
        self.by_id: dict[bytes, Plan | None] = {}
        self.serial: i64 = 0
        self.before_source = b""
        self.middle_source = b""
        self.after_source = b""
        self.after_events = b""
        self.total: i64 = 0
        self.skip: i64 = 0
        self.pos: i64 = 0
        self.next_pos: i64 = 0
        self.fixed_pos = False
        self.stamp = b""
        self.order: i64 = 0
        self.event_end: i64 = 0
        self.plan_now: Plan | None = None
        self.collect: dict[bytes, bytes | None] | None = None
        self.collect_plan: Plan | None = None

    def forget_tables(self) -> None:
        """Something about the tables has changed: ask `lookup` again."""
        self.plans = {}
        self.by_id = {}

    def forget(self, plan: Plan) -> None:
        """The plan's table is captured no more."""
        self.plans = {body: None if found is plan else found for body, found in self.plans.items()}
        self.by_id = {id_: None if found is plan else found for id_, found in self.by_id.items()}

    # --- source block

    def begin(
        self,
        commit_us: i64,
        server_id: i64,
        gtid: bytes | None,
        file: bytes,
        pos: i64,
        thread: i64,
        id_: bytes,
        skip: i64,
    ) -> None:
        """A transaction begins. `commit_us`: its commit time; `gtid`: None without; `file`, `pos`: where its first
        event stands; `thread`: -1 = unknown; `id_`: what its events carry; the first `skip` events are in the log."""
        w = BytesWriter()
        w.write(self.head)
        put_long(w, commit_us // 1000)
        w.append(0)
        put_bytes(w, b"false")
        self.before_source = w.getvalue()
        w = BytesWriter()
        w.append(0)
        w.append(2)
        put_long(w, commit_us)
        w.append(2)
        put_long(w, commit_us * 1000)
        w.append(2)
        self.middle_source = w.getvalue()
        w = BytesWriter()
        put_long(w, server_id)
        if gtid is None:
            w.append(0)
        else:
            w.append(2)
            put_bytes(w, gtid)
        put_bytes(w, file)
        self.after_source = w.getvalue()
        w = BytesWriter()
        if thread < 0:
            w.append(0)
        else:
            w.append(2)
            put_long(w, thread)
        w.append(0)
        w.append(2)
        put_bytes(w, id_)
        self.after_events = w.getvalue()
        self.total = 0
        self.skip = skip
        self.pos = pos
        self.next_pos = pos
        self.serial += 1

    def begin_load(self, time_us: i64, file: bytes, pos: i64, chunk: bytes) -> None:
        """Rows of a chunk follow; `chunk` goes into `source.sequence`."""
        w = BytesWriter()
        w.write(self.head)
        put_long(w, time_us // 1000)
        w.append(0)
        put_bytes(w, b"true")
        self.before_source = w.getvalue()
        w = BytesWriter()
        w.append(2)
        put_bytes(w, chunk)
        w.append(2)
        put_long(w, time_us)
        w.append(2)
        put_long(w, time_us * 1000)
        w.append(2)
        self.middle_source = w.getvalue()
        w = BytesWriter()
        put_long(w, 0)
        w.append(0)
        put_bytes(w, file)
        put_long(w, pos)
        put_long(w, 0)
        w.append(0)
        w.append(0)
        self.after_source = w.getvalue()
        self.serial += 1

    def set_time(self, now_ns: i64) -> None:
        """The processing time that events carry from here on."""
        w = BytesWriter()
        w.append(2)
        put_long(w, now_ns // 1000000)
        w.append(2)
        put_long(w, now_ns // 1000)
        w.append(2)
        put_long(w, now_ns)
        w.append(0)
        self.stamp = w.getvalue()

    def _source_of(self, plan: Plan) -> bytes:
        if plan.serial != self.serial:
            plan.source = (
                self.before_source + plan.source_db + self.middle_source + plan.source_table + self.after_source
            )
            plan.serial = self.serial
        return plan.source

    # --- events

    def run(self, data: bytes, at: i64, end: i64, gap: i64, trailer: i64) -> None:
        """The TABLE_MAP and row events in data[at:end], one after the other. Before each stand `gap` bytes that do not
        count (packet header and status byte), and the last `trailer` bytes of each are its checksum.

        Raises:
            TornRowError, InexactKeyError, PartialImageError; whatever `lookup` and `decide` raise.
        """
        try:
            while at < end:
                at += gap
                size: i64 = i64(read_i32_le(data, at + 9))
                stop: i64 = at + size
                self.event_end = stop
                self.plan_now = None
                if size < 27 or stop > end:
                    raise TornRowError("an event's size points outside the received bytes")
                self._locate(i64(read_i32_le(data, at + 13)) & 0xFFFFFFFF, size)
                if data[at + 4] == 19:
                    self.map(data, at, stop - trailer, trailer != 0)
                else:
                    if trailer:
                        self._verify(data, at, stop)
                    self.rows(data, at, stop - trailer)
                at = stop
        except (IndexError, ValueError, OverflowError, KeyError) as error:
            raise TornRowError(f"{type(error).__name__}: {error}") from error

    def _locate(self, next_pos: i64, size: i64) -> None:
        """Where the event stands in its file: by the end its header gives, modulo 2^32; MariaDB 11 writes 0 inside a
        transaction, then by the sizes of the events before it."""
        if self.fixed_pos:
            return
        self.pos = self.next_pos
        if next_pos:
            low: i64 = (next_pos - size) & 0xFFFFFFFF
            self.pos = (self.next_pos & ~0xFFFFFFFF) | low
            if self.pos < self.next_pos - 0x80000000:
                self.pos += 0x100000000
        self.next_pos = self.pos + size

    def _verify(self, data: bytes, at: i64, stop: i64) -> None:
        if crc32(data[at : stop - 4]) != (int(read_i32_le(data, stop - 4)) & 0xFFFFFFFF):
            raise TornRowError("an event does not match its checksum")

    def map(self, data: bytes, at: i64, end: i64, checked: bool) -> None:
        body = data[at + 19 : end]
        if body in self.plans:  # and so the same, byte for byte, as one that matched its checksum
            self.by_id[body[:6]] = self.plans[body]
        else:
            if checked:
                self._verify(data, at, end + 4)
            plan = self.lookup(body)
            self.plans[body] = plan
            self.by_id[body[:6]] = plan

    def rows(self, m: bytes, at: i64, end: i64) -> None:
        """One row event in m[at:end], without its checksum."""
        kind: i64 = m[at + 4]
        id_ = m[at + 19 : at + 25]
        o: i64 = at + 27
        if kind >= 30:
            extra: i64 = le(m, o, 2)
            if extra < 2:
                raise TornRowError("extra data of a row event is shorter than its length")
            o += extra
        if id_ not in self.by_id:
            # An event without rows ends a statement that touched only tables its server does not replicate.
            if o + 1 >= end or m[o] == 0:
                return
            raise TornRowError("a row event without its table map")
        plan = self.by_id[id_]
        if plan is None:
            return
        self.plan_now = plan
        count: i64 = m[o]
        o += 1
        if count > 250:
            if count != 252:
                raise TornRowError("not a number of columns")
            count = le(m, o, 2)
            o += 2
        if count != plan.n:
            raise TornRowError("a row event with another number of columns than its table map")
        self._present(m, o, plan.n)
        o += (plan.n + 7) // 8
        update = kind == 24 or kind == 31 or kind == 39
        if update:
            self._present(m, o, plan.n)
            o += (plan.n + 7) // 8
        row: i64 = 0
        if plan.n == 0:
            raise TornRowError("a table without columns")
        while o < end:
            if update:
                o = self._update(plan, m, o, end, row, kind == 39)
            elif kind == 23 or kind == 30:
                o = self._insert(plan, m, o, end, row)
            elif kind == 25 or kind == 32:
                o = self._delete(plan, m, o, end, row)
            else:
                raise TornRowError("not a row event")
            row += 1

    def _present(self, m: bytes, o: i64, n: i64) -> None:
        """
        Raises:
            PartialImageError: a column is not in the image (binlog_row_image is not FULL).
        """
        i: i64 = 0
        while i < n:
            bits: i64 = m[o + (i >> 3)]
            if (bits >> (i & 7)) & 1 == 0:
                raise PartialImageError()
            i += 1

    def _insert(self, plan: Plan, m: bytes, o: i64, end: i64, row: i64) -> i64:
        w = self._value(plan)
        kw = self._key(plan)
        w.append(0)
        w.append(2)
        o = self.values.image(plan, m, o, end, w, kw, b"after.")
        key = None if kw is None else kw.getvalue()
        if self.collect is not None:
            self._collect(plan, key, None)
        elif self._wanted(plan, key):
            plan.buffer.append(key, self._finish(plan, w, _C, row))
        return o

    def _delete(self, plan: Plan, m: bytes, o: i64, end: i64, row: i64) -> i64:
        w = self._value(plan)
        kw = self._key(plan)
        w.append(2)
        start: i64 = o
        o = self.values.image(plan, m, o, end, w, kw, b"before.")
        w.append(0)
        key = None if kw is None else kw.getvalue()
        if self.collect is not None:
            self._collect(plan, key, m[start:o])
        elif self._wanted(plan, key):
            plan.buffer.append(key, self._finish(plan, w, _D, row))
            if key is not None:
                plan.buffer.append(key, None)
        return o

    def _update(self, plan: Plan, m: bytes, o: i64, end: i64, row: i64, partial: bool) -> i64:
        w = self._value(plan)
        kw = self._key(plan)
        w.append(2)
        before: i64 = o
        if partial:
            self.values.json_before = {}
        o = self.values.image(plan, m, o, end, w, kw, b"before.")
        old = None if kw is None else kw.getvalue()
        kw = self._key(plan)
        w.append(2)
        after: i64 = o
        if partial:
            o = self.values.partial_image(plan, m, o, end, w, kw)
        else:
            o = self.values.image(plan, m, o, end, w, kw, b"after.")
        new = None if kw is None else kw.getvalue()
        if self.collect is not None:
            self._collect(plan, old, m[before:after])
            if new != old:
                self._collect(plan, new, None)
            return o
        if old == new:
            if self._wanted(plan, new):
                plan.buffer.append(new, self._finish(plan, w, _U, row))
            return o
        self.values.exact = []
        self._delete_half(plan, m, before, end, row, old, new)
        self._insert_half(plan, m, after, end, row, old, new, partial)
        return o

    def _delete_half(
        self, plan: Plan, m: bytes, at: i64, end: i64, row: i64, old: bytes | None, new: bytes | None
    ) -> None:
        if not self._wanted(plan, old):
            return
        w = self._value(plan)
        w.append(2)
        self.values.image(plan, m, at, end, w, None, b"before.")
        w.append(0)
        value = self._finish(plan, w, _D, row)
        plan.buffer.append_with_header(old, value, NEW_KEY, b"" if new is None else new)
        plan.buffer.append(old, None)

    def _insert_half(
        self, plan: Plan, m: bytes, at: i64, end: i64, row: i64, old: bytes | None, new: bytes | None, partial: bool
    ) -> None:
        if not self._wanted(plan, new):
            return
        w = self._value(plan)
        w.append(0)
        w.append(2)
        if partial:
            self.values.partial_image(plan, m, at, end, w, None)
        else:
            self.values.image(plan, m, at, end, w, None, b"after.")
        value = self._finish(plan, w, _C, row)
        plan.buffer.append_with_header(new, value, OLD_KEY, b"" if old is None else old)

    def _wanted(self, plan: Plan, key: bytes | None) -> bool:
        """Count the event; False when it is in the log already or its chunk's rows hold it."""
        self.total += 1
        buffer = plan.buffer
        self.order = buffer.next_in_transaction()
        wanted = self.total > self.skip
        if wanted and buffer.judged:
            wanted = self.decide(plan, key)
        if not wanted:
            self.values.exact = []
        return wanted

    def _collect(self, plan: Plan, key: bytes | None, before: bytes | None) -> None:
        """Set-back of a chunk (rule B7): the first image before the change of each key of the one table asked for."""
        self.values.exact = []
        if plan is self.collect_plan and key is not None and self.collect is not None and key not in self.collect:
            self.collect[key] = before

    def _value(self, plan: Plan) -> BytesWriter:
        w = BytesWriter()
        w.write(plan.value_header)
        return w

    def _key(self, plan: Plan) -> BytesWriter | None:
        if plan.keyless:
            return None
        kw = BytesWriter()
        kw.write(plan.key_header)
        return kw

    def _finish(self, plan: Plan, w: BytesWriter, op: i64, row: i64) -> bytes:
        w.write(self._source_of(plan))
        put_long(w, self.pos)
        put_long(w, row)
        w.write(self.after_events)
        put_long(w, self.total)
        put_long(w, self.order)
        w.append(2)
        w.append(u8(op))
        w.write(self.stamp)
        self._put_exact(w)
        return w.getvalue()

    def _put_exact(self, w: BytesWriter) -> None:
        if not self.values.exact:
            w.append(0)
            return
        w.append(2)
        put_long(w, len(self.values.exact))
        for name, text in self.values.exact:
            put_bytes(w, name)
            put_bytes(w, text)
        w.append(0)
        self.values.exact = []

    # --- text result sets

    def text_rows(
        self, plan: Plan, data: bytes, at: i64, stop: i64, buffer: TopicBuffer, leave_out: dict[bytes, bytes | None]
    ) -> i64:
        """Whole row packets in data[at:stop] as events of op r; rows whose key is in `leave_out` are not written.
        Returns the place of the first packet that is not a row: not complete, or one that ends the result set.

        Raises:
            TornRowError: a packet that is not a row of this table.
        """
        try:
            while at + 4 <= stop:
                size: i64 = le(data, at, 3)
                if size == 0xFFFFFF or at + 4 + size > stop or size == 0:
                    return at
                first: i64 = data[at + 4]
                if first == 255 or (first == 254 and size < 9):
                    return at
                self.text_row(plan, data, at + 4, at + 4 + size, buffer, leave_out)
                at += 4 + size
        except (IndexError, ValueError, OverflowError, KeyError) as error:
            raise TornRowError(f"{type(error).__name__}: {error}") from error
        return at

    def text_row(
        self, plan: Plan, m: bytes, o: i64, end: i64, buffer: TopicBuffer, leave_out: dict[bytes, bytes | None]
    ) -> None:
        w = self._value(plan)
        kw = self._key(plan)
        w.append(0)
        w.append(2)
        self.values.image_name = b"after."
        n = plan.n
        shuffled = kw is not None and not plan.in_order
        places: list[tuple[int, int]] = []
        i: i64 = 0
        while i < n:
            length: i64 = m[o]
            o += 1
            if length == 251:
                self.values.null(plan, i, w)
                if shuffled:
                    places.append((0, 0))
                i += 1
                continue
            if length > 251:
                width: i64 = 2 if length == 252 else 3 if length == 253 else 8
                length = le(m, o, width)
                o += width
            if length < 0 or o + length > end:
                raise TornRowError("a value reaches beyond its packet")
            if kw is not None and plan.is_key[i] and not shuffled:
                self.values.put_text(plan, m, o, o + length, i, kw, True)
            if shuffled:
                places.append((int(o), int(o + length)))
            self.values.put_text(plan, m, o, o + length, i, w, False)
            o += length
            i += 1
        if o != end:
            raise TornRowError("a row with more columns than its table")
        if kw is not None and shuffled:
            for column in plan.key:
                self.values.put_text(plan, m, places[column][0], places[column][1], column, kw, True)
        key = None if kw is None else kw.getvalue()
        if key is not None and leave_out and key in leave_out:
            self.values.exact = []
            return
        self._finish_load(plan, w)
        buffer.append(key, w.getvalue())

    def image_row(self, plan: Plan, image: bytes, buffer: TopicBuffer) -> None:
        """A row image as an event of op r (set-back, rule B7)."""
        w = self._value(plan)
        kw = self._key(plan)
        w.append(0)
        w.append(2)
        self.values.image(plan, image, 0, len(image), w, kw, b"after.")
        self._finish_load(plan, w)
        buffer.append(None if kw is None else kw.getvalue(), w.getvalue())

    def _finish_load(self, plan: Plan, w: BytesWriter) -> None:
        w.write(self._source_of(plan))
        w.append(0)
        w.append(2)
        w.append(u8(_R))
        w.write(self.stamp)
        self._put_exact(w)


def find_control(data: bytes, at: i64, end: i64) -> i64:
    """Skip whole packets that hold TABLE_MAP or row events; the place of the first other packet, or of the first one
    that is not complete."""
    while at + 9 < end:
        size: i64 = le(data, at, 3)
        if size == 0xFFFFFF or at + 4 + size > end or size < 20 or data[at + 4] != 0:
            return at
        kind: i64 = data[at + 9]
        if not (kind == 19 or (kind >= 23 and kind <= 25) or (kind >= 30 and kind <= 32) or kind == 39):
            return at
        at += 4 + size
    return at


def is_compiled() -> bool:
    """True when this module runs as machine code."""
    return not __file__.endswith(".py")
