"""Change events in, rows for a target out: the last state per key as lines or VALUES rows, or every event as texts.

Compiled with mypyc; the same file runs interpreted. Bytes to bytes: on the default path a row costs one key object and
no value object. Hostile or torn bytes raise one of FAULTS, which callers turn into DecodeError.
"""

from typing import Final, final

from librt.strings import BytesWriter, read_i32_le
from mypy_extensions import i64

from tailrace_schemas.wire import skip_headers
from tailrace_sinks.envelope import (
    MISSING,
    OP_CREATE,
    OP_DELETE,
    OP_READ,
    OP_TRUNCATE,
    OP_UPDATE,
    Q_SQL,
    Plan,
    Reader,
)
from tailrace_sinks.render import exact_field, exact_value, key_fields, put_row, row_fields

NEW_KEY: Final = b"__debezium.newkey"  # header of a delete that is one half of a key change


@final
class Change:
    """One event for a slow path. Rows are lists of text, None or MISSING by column, `key` the texts in key order.

    `moved`: a delete whose row comes again under another key, in the event that follows.
    `order`: place in the source's order among all events of one log transaction (ascending; ties stay in frame order).
    """

    def __init__(self) -> None:
        self.op = 0
        self.key: list[object] = []
        self.before: list[object] | None = None
        self.after: list[object] | None = None
        self.order: tuple[int, int, int] = (0, 0, 0)
        self.moved = False


# ---- many events


def after_headers(data: bytes, at: i64) -> i64:
    """The place after a record's headers, which must lie inside `data`."""
    if data[at] == 0:
        return at + 1
    after: i64 = skip_headers(data, at)
    if after <= at or after > len(data):
        raise ValueError("torn record frame")
    return after


@final
class Odd:
    """The last state of a key that met an event with values not sent or given as text: fields by column.

    `fresh`: the row did not exist before this state, so that values not sent are NULL, not the target's.
    """

    def __init__(self, key: list[object], fields: list[object] | None, fresh: bool) -> None:
        self.key = key
        self.fields = fields
        self.fresh = fresh


@final
class Counts:
    """Events by kind."""

    def __init__(self) -> None:
        self.loaded = 0
        self.inserts = 0
        self.updates = 0
        self.deletes = 0

    def add(self, op: i64) -> None:
        if op == OP_READ:
            self.loaded += 1
        elif op == OP_CREATE:
            self.inserts += 1
        elif op == OP_UPDATE:
            self.updates += 1
        else:
            self.deletes += 1


@final
class Compacted:
    """The last state of every key.

    `upserts` and `deletes`: lines, or rows of a VALUES list with a comma after each, in chunks of whole rows, as whole
    rows in table order; of a delete only the key columns hold values. `partial`: columns not sent → lines of updates;
    `fresh`: the same of inserts, whose unsent columns are NULL. `*_count`: how many rows.
    """

    def __init__(self) -> None:
        self.upserts: list[bytes] = []
        self.upsert_count = 0
        self.deletes: list[bytes] = []
        self.delete_count = 0
        self.partial: dict[tuple[int, ...], list[bytes]] = {}
        self.fresh: dict[tuple[int, ...], list[bytes]] = {}


DELETE_MARK: Final = 0
UPSERT_MARK: Final = 1
ODD_MARK: Final = 2


@final
class Chunks:
    """Bytes gathered in chunks of whole rows of about `limit` bytes; 0 = all in one."""

    def __init__(self, limit: i64) -> None:
        self.limit: i64 = limit
        self.writer = BytesWriter()
        self.full: list[bytes] = []

    def row_ends(self) -> None:
        if self.limit and len(self.writer) >= self.limit:
            self.full.append(self.writer.getvalue())
            self.writer = BytesWriter()

    def all(self) -> list[bytes]:
        if len(self.writer):
            self.full.append(self.writer.getvalue())
            self.writer = BytesWriter()
        return self.full


@final
class Compactor:
    """Takes the frames of a keyed table under one schema, piece by piece in order; keeps the last state per key.

    Keys are told apart by the bytes of their Avro record, and by the exact text where that cannot carry them.
    `head_upsert`, `head_delete`: bytes put before each line (a stage's operation column). `chunk_bytes`: see Chunks.
    """

    def __init__(self, plan: Plan, head_upsert: bytes, head_delete: bytes, chunk_bytes: int = 0) -> None:
        self.plan = plan
        self.chunk_bytes: i64 = chunk_bytes
        self.head_upsert = head_upsert
        self.head_delete = head_delete
        self.data: list[bytes] = []
        # key → number of the piece << 42 | place of the after image << 2 | mark
        self.last: dict[bytes, int] = {}
        self.odd: dict[bytes, Odd] = {}
        self.counts = Counts()
        self.size = 0

    def add(self, data: bytes) -> None:
        """One piece of frames.

        Raises:
            FAULTS: not frames of this schema; what was added before is lost too.
        """
        plan = self.plan
        last = self.last
        counts = self.counts
        number: i64 = len(self.data)
        self.data.append(data)
        self.size += len(data)
        base: i64 = number << 42
        r = Reader(data)
        total: i64 = len(data)
        at: i64 = 0
        while at < total:
            key_length: i64 = i64(read_i32_le(data, at))
            key_at: i64 = at + 4
            if key_length > total - key_at or (key_length < 5 and key_length != -1):
                raise ValueError("a keyed table's record without a key")
            at = key_at
            if key_length > 0:
                at += key_length
            length: i64 = i64(read_i32_le(data, at))
            value_at: i64 = at + 4
            at = value_at
            if length > total - value_at or length < -1:
                raise ValueError("torn record frame")
            if length >= 0:
                at += length
            at = after_headers(data, at)
            if length < 0:
                continue  # a tombstone: its delete came just before
            if length < 5:
                raise ValueError("a value without its header")
            r.walk(plan, value_at + 5, value_at + length)
            if r.op == OP_TRUNCATE:
                continue
            if key_length < 0:
                raise ValueError("a keyed table's record without a key")
            counts.add(r.op)
            key = data[key_at + 5 : key_at + key_length]
            if r.unavailable_at >= 0 or r.exact_at >= 0 or key in self.odd:
                self.add_odd(r, key, base)
            elif r.op == OP_DELETE:
                last[key] = int(base | DELETE_MARK)
            else:
                last[key] = int(base | (r.after_at << 2) | UPSERT_MARK)

    def add_odd(self, r: Reader, plain_key: bytes, base: i64) -> None:
        """An event with values not sent or given as text, or a later one of such a key."""
        exact = r.exact()
        names = r.unavailable()
        exact_key = self.exact_key(exact, "before." if r.op == OP_DELETE else "after.")
        key = plain_key + repr(sorted(exact_key.items())).encode() if exact_key else plain_key
        if r.op == OP_DELETE:
            if exact_key:
                self.odd[key] = Odd(self.key_texts(plain_key, exact_key), None, False)
                self.last[key] = int(base | ODD_MARK)
            else:
                self.odd.pop(key, None)
                self.last[key] = int(base | DELETE_MARK)
        elif exact or names:
            self.odd[key] = self.odd_row(r, key, exact, names)
            self.last[key] = int(base | ODD_MARK)
        else:
            self.odd.pop(key, None)
            self.last[key] = int(base | (r.after_at << 2) | UPSERT_MARK)

    def odd_row(self, r: Reader, key: bytes, exact: dict[str, str], names: list[str]) -> Odd:
        plan = self.plan
        r.at = r.after_at
        fields = row_fields(r, plan, int(plan.quoting))
        for name, text in exact.items():
            if name.startswith("after."):
                column = plan.numbers[name[6:]]
                fields[column] = exact_value(plan, column, text, int(plan.quoting))
        fresh = r.op != OP_UPDATE
        if names:
            earlier = self.fields_of(key)
            previous = self.odd.get(key)
            if r.op == OP_UPDATE and previous is not None and previous.fields is not None:
                fresh = previous.fresh
            for name in names:
                column = plan.numbers[name]
                fields[column] = MISSING if earlier is None else earlier[column]
        return Odd([], fields, fresh)

    def exact_key(self, exact: dict[str, str], image: str) -> dict[int, str]:
        """Key columns whose value is given as text: the Avro key cannot tell such rows apart."""
        out: dict[int, str] = {}
        for name, text in exact.items():
            if name.startswith(image):
                number = self.plan.numbers[name[len(image) :]]
                if number in self.plan.key:
                    out[number] = text
        return out

    def key_texts(self, key: bytes, exact_key: dict[int, str]) -> list[object]:
        r = Reader(key)
        texts = key_fields(r, self.plan, int(self.plan.quoting))
        for place, number in enumerate(self.plan.key):
            if number in exact_key:
                texts[place] = exact_field(
                    exact_key[number], self.plan.ops[number], self.plan.quoting, self.plan.item_ops[number]
                )
        return texts

    def fields_of(self, key: bytes) -> list[object] | None:
        """The fields of a key's state so far, None where there is no row of it in this batch."""
        state = self.last.get(key)
        if state is None:
            return None
        mark = state & 3
        if mark == ODD_MARK:
            return self.odd[key].fields
        if mark == DELETE_MARK:
            return None
        r = Reader(self.data[state >> 42])
        r.at = (state & 0x3FFFFFFFFFF) >> 2
        return row_fields(r, self.plan, self.plan.quoting)

    def finish(self) -> Compacted:
        """The lines. Order of keys is that of their first event."""
        plan = self.plan
        out = Compacted()
        upserts = Chunks(self.chunk_bytes)
        deletes = Chunks(self.chunk_bytes)
        head_upsert = self.head_upsert
        head_delete = self.head_delete
        readers: list[Reader] = [Reader(data) for data in self.data]
        upsert_count: i64 = 0
        delete_count: i64 = 0
        for key, packed in self.last.items():
            state: i64 = packed
            mark: i64 = state & 3
            if mark == UPSERT_MARK:
                r = readers[state >> 42]
                r.at = (state & 0x3FFFFFFFFFF) >> 2
                w = upserts.writer
                w.write(head_upsert)
                put_row(w, r, plan)
                self.put_end(w)
                upserts.row_ends()
                upsert_count += 1
            elif mark == DELETE_MARK:
                deletes.writer.write(head_delete)
                self.put_key(deletes, key_fields(Reader(key), plan, int(plan.quoting)))
                delete_count += 1
            else:
                odd = self.odd[key]
                if odd.fields is None:
                    deletes.writer.write(head_delete)
                    self.put_key(deletes, odd.key)
                    delete_count += 1
                elif any(field is MISSING for field in odd.fields):
                    missing = tuple(i for i, field in enumerate(odd.fields) if field is MISSING)
                    into = out.fresh if odd.fresh else out.partial
                    into.setdefault(missing, []).append(self.line(odd.fields))
                else:
                    upserts.writer.write(head_upsert)
                    upserts.writer.write(self.line(odd.fields))
                    upserts.row_ends()
                    upsert_count += 1
        out.upserts = upserts.all()
        out.upsert_count = int(upsert_count)
        out.deletes = deletes.all()
        out.delete_count = int(delete_count)
        return out

    def put_end(self, w: BytesWriter) -> None:
        if self.plan.quoting == Q_SQL:
            w.append(41)
            w.append(44)
        else:
            w.append(10)

    def put_key(self, chunks: Chunks, fields: list[object]) -> None:
        """A delete's line: key columns in their places, the rest NULL."""
        plan = self.plan
        row: list[object] = [None] * int(plan.count)
        for place, number in enumerate(plan.key):
            row[number] = fields[place]
        chunks.writer.write(joined_fields(row, int(plan.quoting)))
        self.put_end(chunks.writer)
        chunks.row_ends()

    def line(self, fields: list[object]) -> bytes:
        w = BytesWriter()
        w.write(joined_fields(fields, self.plan.quoting))
        self.put_end(w)
        return w.getvalue()


def joined_fields(fields: list[object], quoting: int) -> bytes:
    null = b"NULL" if quoting == Q_SQL else b"\\N"
    parts: list[bytes] = [field if isinstance(field, bytes) else null for field in fields]
    return (b"," if quoting == Q_SQL else b"\t").join(parts)


# ---- slow paths


def texts_of(fields: list[object]) -> list[object]:
    return [field.decode() if isinstance(field, bytes) else field for field in fields]


def overlay(fields: list[object], exact: dict[str, str], image: str, plan: Plan, quoting: int) -> None:
    for name, text in exact.items():
        if name.startswith(image):
            column = plan.numbers[name[len(image) :]]
            fields[column] = exact_value(plan, column, text, quoting)


def source_order(r: Reader, binlog: bool) -> tuple[int, int, int]:
    """(log file or 0, commit LSN or position, ordinal in the transaction); zeros for a loaded row."""
    if r.transaction_at < 0:
        return (0, 0, 0)
    r.at = r.transaction_at
    identity = r.text()
    ordinal = int(r.long())
    if not binlog:
        high, _, low = identity.rpartition(":")[2].partition("/")
        if low:
            return (0, int(high, 16) << 32 | int(low, 16), ordinal)
        return (0, int(high), ordinal)
    r.at = r.source_at
    # version, connector, name, ts_ms, snapshot, db, sequence, ts_us, ts_ns, table, server_id, gtid: then file and pos
    r.skip_letters(b"ssslEsSLLSlS")
    file = r.text()
    position = int(r.long())
    suffix = file.rpartition(".")[2]
    return (int(suffix) if suffix.isdigit() else 0, position, ordinal)


def changes(plan: Plan, data: bytes, binlog: bool, quoting: int) -> list[Change]:
    """Every event of one piece, decoded to texts (Q_RAW) or SQL literals (Q_SQL), in frame order.

    Raises:
        FAULTS: not frames of this schema.
    """
    out: list[Change] = []
    at: i64 = 0
    total: i64 = len(data)
    while at < total:
        key_length: i64 = i64(read_i32_le(data, at))
        key_at: i64 = at + 4
        at = key_at
        if key_length > total - key_at or key_length < -1:
            raise ValueError("torn record frame")
        if key_length > 0:
            at += key_length
        length: i64 = i64(read_i32_le(data, at))
        value_at: i64 = at + 4
        at = value_at
        if length > total - value_at or length < -1:
            raise ValueError("torn record frame")
        if length > 0:
            at += length
        headers: i64 = at
        at = after_headers(data, at)
        if length < 0:
            continue
        r = Reader(data)
        r.walk(plan, value_at + 5, value_at + length)
        if r.op == OP_TRUNCATE:
            continue
        change = change_of(plan, r, data, key_at, key_length, binlog, quoting)
        change.moved = NEW_KEY in data[headers:at]
        out.append(change)
    return out


def change_of(plan: Plan, r: Reader, data: bytes, key_at: i64, key_length: i64, binlog: bool, quoting: int) -> Change:
    change = Change()
    change.op = int(r.op)
    exact = r.exact()
    missing = r.unavailable()
    if r.before_at >= 0:
        r.at = r.before_at
        before = row_fields(r, plan, quoting)
        overlay(before, exact, "before.", plan, quoting)
        change.before = texts_of(before)
    if r.after_at >= 0:
        r.at = r.after_at
        after = row_fields(r, plan, quoting)
        overlay(after, exact, "after.", plan, quoting)
        for name in missing:
            after[plan.numbers[name]] = MISSING
        change.after = texts_of(after)
    change.order = source_order(r, binlog)
    if len(plan.key) and key_length >= 5:
        k = Reader(data)
        k.at = key_at + 5
        k.end = key_at + key_length
        key = texts_of(key_fields(k, plan, quoting))
        image = change.before if change.op == OP_DELETE else change.after
        word = "before." if change.op == OP_DELETE else "after."
        for name in exact:
            if image is not None and name.startswith(word) and plan.numbers[name[len(word) :]] in plan.key:
                number = plan.numbers[name[len(word) :]]
                key[plan.key.index(number)] = image[number]
        change.key = key
    return change


def schema_runs(data: bytes) -> list[tuple[int, bytes]]:
    """A piece parted where the value's schema id changes: (schema id, frames). Tombstones stay with the event before
    them; a piece of tombstones alone has id -1."""
    out: list[tuple[int, bytes]] = []
    at: i64 = 0
    start: i64 = 0
    total: i64 = len(data)
    current: i64 = -1
    while at < total:
        frame: i64 = at
        n: i64 = i64(read_i32_le(data, at))
        at += 4
        if n > total - at or n < -1:
            raise ValueError("torn record frame")
        if n > 0:
            at += n
        n = i64(read_i32_le(data, at))
        at += 4
        value_at: i64 = at
        if n > total - at or n < -1:
            raise ValueError("torn record frame")
        if n > 0:
            at += n
        at = after_headers(data, at)
        if n < 0:
            continue
        if n < 5 or data[value_at] != 0:
            raise ValueError("a value without the Confluent header")
        a: i64 = data[value_at + 1]
        b: i64 = data[value_at + 2]
        c: i64 = data[value_at + 3]
        d: i64 = data[value_at + 4]
        schema: i64 = a << 24 | b << 16 | c << 8 | d
        if schema != current:
            if current >= 0:
                out.append((int(current), data[start:frame]))
                start = frame
            current = schema
    if at != total:
        raise ValueError("torn record frame")
    out.append((int(current), data[start:] if start else data))
    return out


def is_compiled() -> bool:
    """True when this module runs as machine code."""
    return not __file__.endswith(".py")
