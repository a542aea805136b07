"""pgoutput messages and COPY text to Avro events, bytes to bytes.

Compiled with mypyc; the same file runs interpreted. Per table a `Plan` of opcodes, built when its Relation message (or
catalogue entry) arrives; values stay text of the source until they are Avro. What the fast opcodes do not cover
(infinity, BC, NaN, arrays, intervals …) goes through the column's converter, a plain function of `values.py`.
No socket, no catalogue. Truncated or hostile bytes raise ValueError or IndexError, never read past a message.
Format: PostgreSQL 18 manual, "Logical Replication Message Formats", "Streaming Replication Protocol", COPY text format.
"""

from collections.abc import Callable

from librt.strings import (
    BytesWriter,
    read_i16_be,
    read_i32_be,
    read_i64_be,
    write_f32_le,
    write_f64_le,
)
from mypy_extensions import i64, u8

from tailrace_log.frames import TopicBuffer
from tailrace_schemas.wire import put_bytes, put_header, put_long, put_text, put_unscaled, put_unscaled_big

# How a column's text becomes Avro.
O_CONVERT = 0  # always through the converter
O_LONG = 1  # int2, int4, int8, oid
O_BOOLEAN = 2
O_STRING = 3  # the text as it is
O_FLOAT = 4
O_DOUBLE = 5
O_DECIMAL = 6  # numeric(p,s): the text has exactly `scale` fractional digits
O_NUMBER = 7  # numeric without declared scale
O_TIMESTAMP = 8  # `scale` = fractional digits; up to 3: milliseconds
O_TIMESTAMP_TZ = 9  # `scale` = fractional digits in the text
O_DATE = 10
O_TIME = 11
O_BYTES = 12  # bytea in hex format
O_BIT = 13  # bit(1)

# What `feed` answers.
FED = 0
NOT_A_CHANGE = 1  # begin, commit, relation, truncate, …: the caller's
UNKNOWN_RELATION = 2  # a change of a table that is not captured, or whose Relation has not come
INCOMPLETE = 3  # the change lacks column values it must have: complete it, then feed it again
UNCHANGED_KEY = 4  # a key column was not sent: the row cannot be identified
INEXACT_KEY = 5  # a key value that Avro cannot carry; `Codec.inexact` names the column

NEW_KEY = b"__debezium.newkey"
OLD_KEY = b"__debezium.oldkey"

# value text → (Avro bytes, None) | (Avro bytes or None, exact text)
Converter = Callable[[bytes], tuple[bytes | None, str | None]]


class InexactKeyError(ValueError):
    """A key value that Avro's type cannot carry; the argument is the column's name."""


class Plan:
    """How one table's tuples are read. Lists and `bytes` are by column.

    `zeros`: Avro bytes where a NOT NULL column has no value to write; `placeholders`: what stands for a value that was
    not sent, None where Debezium has none for the type; `key_columns`: column numbers in key order.
    `middle`: the constant `schema` and `table` of the source block.
    """

    def __init__(
        self,
        names: list[str],
        ops: bytes,
        scales: bytes,
        nullable: bytes,
        converters: list[Converter],
        zeros: list[bytes],
        placeholders: list[bytes | None],
        key_columns: list[int],
        value_id: int,
        key_id: int,
        middle: bytes,
        buffer: TopicBuffer,
    ) -> None:
        self.names = names
        self.n: i64 = len(names)
        self.ops = ops
        self.scales = scales
        self.nullable = nullable
        self.converters = converters
        self.zeros = zeros
        self.placeholders = placeholders
        self.key_columns = key_columns
        self.key_count: i64 = len(key_columns)
        is_key = bytearray(len(names))
        for column in key_columns:
            is_key[column] = 1
        self.is_key = bytes(is_key)
        w = BytesWriter()
        put_header(w, value_id)
        self.value_header = w.getvalue()
        k = BytesWriter()
        put_header(k, key_id)
        self.key_header = k.getvalue()
        self.middle = middle
        self.buffer = buffer
        self.starts: list[int] = [0] * len(names)
        self.ends: list[int] = [-1] * len(names)
        self.owner: object = None


class Codec:
    """Writes events. One per stream, and one per load thread (for `row` only).

    Per transaction the caller sets, as Avro bytes: `head` (source.version … db), `sequence` (JSON text before the
    current LSN), `times` (source.ts_us, ts_ns), `txid`, `block` (transaction.id with its branch); `now` at will.
    `ordinal` counts events of the transaction; those up to `skip` are not appended. `whole`: a value that was not sent
    and has no placeholder makes the change INCOMPLETE (rule C7). `as_it_is`: nothing does, what is missing stays so.
    """

    def __init__(self, decide: Callable[[Plan, bytes | None], bool]) -> None:
        self.decide = decide
        self.plans: dict[int, Plan] = {}
        self.head = b""
        self.sequence = b""
        self.times = b""
        self.txid = b""
        self.block = b""
        self.now = b""
        self.ordinal: i64 = 0
        self.skip: i64 = 0
        self.events: i64 = 0
        self.whole = False
        self.as_it_is = False
        self.bare = False
        self.new_row = False
        self.in_stream_block = False
        self.message = b""
        self.answer: i64 = FED
        self.w = BytesWriter()
        self.kw = BytesWriter()
        self.exact: list[tuple[str, str]] = []
        self.inexact = ""
        self.missing: list[str] = []

    # --- the stream

    def pump(self, get: Callable[[int], tuple[int, object]], limit: int) -> int:
        """Take up to `limit` messages from `get` (libpq's get_copy_data, non-blocking) and feed the changes among them.

        Returns 0 when none is there now, 1 when the limit was reached, 2 when the stream has ended, 3 with
        `self.message` set when the caller must act on a message; then `self.answer` says why.
        """
        n: i64 = limit
        while n > 0:
            size, data = get(1)
            if size == 0:
                return 0
            if size < 0:
                return 2
            m = bytes(data)  # type: ignore[call-overload]
            n -= 1
            self.answer = NOT_A_CHANGE
            if m[0] == 119:
                self.answer = self.feed(m)
                if self.answer == FED:
                    continue
            self.message = m
            return 3
        return 1

    def feed(self, m: bytes) -> i64:
        """One XLogData message. FED, or why it was not."""
        if self.in_stream_block:
            return NOT_A_CHANGE
        kind: i64 = m[25]
        if kind != 73 and kind != 85 and kind != 68:
            return NOT_A_CHANGE
        plan = self.plans.get(int(read_i32_be(m, 26)))
        if plan is None:
            return UNKNOWN_RELATION
        lsn: i64 = read_i64_be(m, 1)
        try:
            if kind == 73:
                return self._insert(plan, m, lsn)
            if kind == 85:
                return self._update(plan, m, lsn)
            return self._delete(plan, m, lsn)
        except InexactKeyError as error:
            self.inexact = str(error)
            return INEXACT_KEY

    def _insert(self, plan: Plan, m: bytes, lsn: i64) -> i64:
        w = self._fresh(plan)
        w.append(0)
        w.append(2)
        if self._tuple(plan, m, 31, w, False, "after.") < 0:
            return UNCHANGED_KEY
        key = self._key(plan, m)
        self.ordinal += 1
        self._publish(plan, key, w, 99, lsn)
        return FED

    def _delete(self, plan: Plan, m: bytes, lsn: i64) -> i64:
        w = self._fresh(plan)
        w.append(2)
        if self._tuple(plan, m, 31, w, m[30] == 75, "before.") < 0:
            return UNCHANGED_KEY
        w.append(0)
        key = self._key(plan, m)
        self.ordinal += 1
        if self._publish(plan, key, w, 100, lsn) and key is not None:
            plan.buffer.append(key, None)
        return FED

    def _update(self, plan: Plan, m: bytes, lsn: i64) -> i64:
        kind: i64 = m[30]
        w = self._fresh(plan)
        at: i64 = 30
        old_key: bytes | None = None
        if kind == 78:
            w.append(0)
        else:
            w.append(2)
            at = self._tuple(plan, m, 31, w, kind == 75, "before.")
            if at < 0:
                return UNCHANGED_KEY
            if m[at] != 78:
                raise ValueError("update without a new tuple")
            old_key = self._key(plan, m)
        w.append(2)
        if self._tuple(plan, m, at + 1, w, False, "after.") < 0:
            return UNCHANGED_KEY if kind == 78 or self.as_it_is else INCOMPLETE
        if self.missing and not self.as_it_is and (kind == 79 or (self.whole and self.bare)):
            return INCOMPLETE
        key = self._key(plan, m)
        if old_key is not None and old_key != key:
            if self.missing and not self.as_it_is:
                return INCOMPLETE
            self._key_change(plan, m, lsn, kind == 75, old_key, key)
            return FED
        self.ordinal += 1
        self._publish(plan, key, w, 117, lsn)
        return FED

    def _key_change(
        self, plan: Plan, m: bytes, lsn: i64, partial: bool, old_key: bytes | None, key: bytes | None
    ) -> None:
        """Two events: delete of the old key, insert under the new one; each judged by its own key (rule B8)."""
        w = self._fresh(plan)
        w.append(2)
        at = self._tuple(plan, m, 31, w, partial, "before.")
        w.append(0)
        self.ordinal += 1
        if self._may_publish(plan, old_key):
            self._finish(plan, w, 100, lsn)
            plan.buffer.append_with_header(old_key, w.getvalue(), NEW_KEY, b"" if key is None else key)
            plan.buffer.append(old_key, None)
        else:
            plan.buffer.next_in_transaction()
        w = self._fresh(plan)
        w.append(0)
        w.append(2)
        self.new_row = True
        self._tuple(plan, m, at + 1, w, False, "after.")
        self.new_row = False
        self.ordinal += 1
        if self._may_publish(plan, key):
            self._finish(plan, w, 99, lsn)
            plan.buffer.append_with_header(key, w.getvalue(), OLD_KEY, b"" if old_key is None else old_key)
        else:
            plan.buffer.next_in_transaction()

    def _fresh(self, plan: Plan) -> BytesWriter:
        w = self.w
        w.truncate(0)
        w.write(plan.value_header)
        if self.exact:
            self.exact = []
        if self.missing:
            self.missing = []
            self.bare = False
        return w

    def _may_publish(self, plan: Plan, key: bytes | None) -> bool:
        self.events += 1
        if self.ordinal <= self.skip:
            return False
        return not plan.buffer.judged or self.decide(plan, key)

    def _publish(self, plan: Plan, key: bytes | None, w: BytesWriter, op: i64, lsn: i64) -> bool:
        if not self._may_publish(plan, key):
            plan.buffer.next_in_transaction()
            return False
        self._finish(plan, w, op, lsn)
        plan.buffer.append(key, w.getvalue())
        return True

    def _finish(self, plan: Plan, w: BytesWriter, op: i64, lsn: i64) -> None:
        """source, transaction, op, times, and our two fields."""
        w.write(self.head)
        digits: i64 = 1
        limit: i64 = 10
        while digits < 18 and lsn >= limit:
            digits += 1
            limit *= 10
        w.append(2)
        put_long(w, len(self.sequence) + digits + 2)
        w.write(self.sequence)
        put_digits(w, lsn, digits)
        w.append(34)
        w.append(93)
        w.write(self.times)
        w.write(plan.middle)
        w.write(self.txid)
        w.append(2)
        put_long(w, lsn)
        w.append(0)
        w.append(0)
        w.append(0)
        w.write(self.block)
        put_long(w, self.ordinal)
        put_long(w, plan.buffer.next_in_transaction())
        w.append(2)
        w.append(u8(op))
        w.write(self.now)
        self._trailer(w)

    def _trailer(self, w: BytesWriter) -> None:
        """unavailable_columns and exact_values."""
        if not self.missing:
            w.append(0)
        else:
            w.append(2)
            put_long(w, len(self.missing))
            for name in self.missing:
                put_text(w, name)
            w.append(0)
        if not self.exact:
            w.append(0)
        else:
            w.append(2)
            put_long(w, len(self.exact))
            for place, text in self.exact:
                put_text(w, place)
                put_text(w, text)
            w.append(0)

    # --- tuples

    def _tuple(self, plan: Plan, m: bytes, at: i64, w: BytesWriter, partial: bool, where: str) -> i64:
        """A TupleData at `at` (its column count) as a row record. Returns the place after it, or -1 when a key column
        was not sent. `partial`: a key tuple, in which the columns outside the key are not sent but say null."""
        end: i64 = len(m)
        count: i64 = i64(read_i16_be(m, at))
        at += 2
        n = plan.n
        if count != n:
            raise ValueError("tuple with another number of columns than its relation")
        i: i64 = 0
        ends = plan.ends
        starts = plan.starts
        while i < n:
            kind: i64 = m[at]
            at += 1
            key: i64 = plan.is_key[i]
            if kind == 116:
                length: i64 = i64(read_i32_be(m, at))
                at += 4
                stop: i64 = at + length
                if length < 0 or stop > end:
                    raise ValueError("torn column value")
                if key:
                    starts[i] = at
                    ends[i] = stop
                if plan.nullable[i]:
                    w.append(2)
                self._value(plan, i, m, at, stop, w, where)
                at = stop
            elif kind == 110:
                if key:
                    if not partial:
                        starts[i] = 0
                    ends[i] = -1
                if plan.nullable[i]:
                    w.append(0)
                else:
                    w.write(plan.zeros[i])
            elif kind == 117:
                if key:
                    return -1
                self._unavailable(plan, i, w)
            else:
                raise ValueError("unknown kind of column value")
            i += 1
        return at

    def _unavailable(self, plan: Plan, i: i64, w: BytesWriter) -> None:
        if self.new_row and not plan.nullable[i]:
            # The row under its new key is gone from the source already, so a later event removes it or moves it on.
            # Until then a NOT NULL column must hold something.
            w.write(plan.zeros[i])
            return
        self.missing.append(plan.names[i])
        placeholder = plan.placeholders[i]
        if placeholder is not None:
            if plan.nullable[i]:
                w.append(2)
            w.write(placeholder)
        else:
            self.bare = True
            if plan.nullable[i]:
                w.append(0)
            else:
                w.write(plan.zeros[i])

    def _key(self, plan: Plan, m: bytes) -> bytes | None:
        """The key record of the tuple read last."""
        if plan.key_count == 0:
            return None
        kw = self.kw
        kw.truncate(0)
        kw.write(plan.key_header)
        for column in plan.key_columns:
            stop: i64 = plan.ends[column]
            if stop < 0:
                raise ValueError("null in a key column")
            self._value(plan, column, m, plan.starts[column], stop, kw, "")
        return kw.getvalue()

    def _value(self, plan: Plan, i: i64, m: bytes, at: i64, stop: i64, w: BytesWriter, where: str) -> None:
        """One value's text m[at:stop] as Avro. In a row, the nullable branch 1 has been written already."""
        op: i64 = plan.ops[i]
        if op == O_STRING:
            put_long(w, stop - at)
            w.write(m[at:stop])
        elif op == O_LONG:
            put_long(w, parse_long(m, at, stop))
        elif op == O_DECIMAL:
            if stop - at > 18 or stop == at or m[stop - 1] > 57:
                self._convert(plan, i, m, at, stop, w, where)
            else:
                put_unscaled(w, parse_unscaled(m, at, stop))
        elif op == O_TIMESTAMP_TZ:
            if not put_instant(w, m, at, stop, plan.scales[i]):
                self._convert(plan, i, m, at, stop, w, where)
        elif op == O_BOOLEAN:
            w.append(1 if m[at] == 116 else 0)
        elif op == O_TIMESTAMP:
            if is_plain_timestamp(m, at, stop):
                put_long(w, parse_timestamp(m, at, stop, plan.scales[i]))
            else:
                self._convert(plan, i, m, at, stop, w, where)
        elif op == O_DATE:
            if stop - at == 10 and m[at + 4] == 45:
                put_long(w, days(parse_long(m, at, at + 4), two(m, at + 5), two(m, at + 8)))
            else:
                self._convert(plan, i, m, at, stop, w, where)
        elif op == O_TIME:
            put_long(w, parse_time(m, at, stop, plan.scales[i]))
        elif op == O_DOUBLE:
            write_f64_le(w, float(m[at:stop]))
        elif op == O_FLOAT:
            write_f32_le(w, float(m[at:stop]))
        elif op == O_BYTES:
            put_hex(w, m, at, stop)
        elif op == O_BIT:
            w.append(1 if m[at] == 49 else 0)
        elif op == O_NUMBER:
            if stop - at > 18 or stop == at or m[stop - 1] > 57:
                self._convert(plan, i, m, at, stop, w, where)
            else:
                put_long(w, fraction_digits(m, at, stop))
                put_unscaled(w, parse_unscaled(m, at, stop))
        else:
            self._convert(plan, i, m, at, stop, w, where)

    def _convert(self, plan: Plan, i: i64, m: bytes, at: i64, stop: i64, w: BytesWriter, where: str) -> None:
        avro, exact = plan.converters[i](m[at:stop])
        if exact is not None and where:
            self.exact.append((where + plan.names[i], exact))
        if avro is not None:
            w.write(avro)
        elif not where:
            raise InexactKeyError(plan.names[i])
        elif plan.nullable[i]:
            w.truncate(len(w) - 1)
            w.append(0)
        else:
            w.write(plan.zeros[i])

    # --- the load

    def row(self, plan: Plan, line: bytes, tail: bytes, buffer: TopicBuffer) -> None:
        """One line of COPY text (with its newline) as an op `r` event. `tail`: what follows the row record, up to the
        two trailing fields: source, transaction, op, times."""
        end: i64 = len(line)
        if end and line[end - 1] == 10:
            end -= 1
        w = self._fresh(plan)
        w.append(0)
        w.append(2)
        n = plan.n
        starts = plan.starts
        ends = plan.ends
        i: i64 = 0
        at: i64 = 0
        texts: list[bytes] | None = None
        while i < n:
            if at > end:
                raise ValueError("COPY line with too few columns")
            stop: i64 = at
            escaped = False
            while stop < end:
                c: i64 = line[stop]
                if c == 9:
                    break
                if c == 92:
                    escaped = True
                    stop += 1
                stop += 1
            if stop > end:
                raise ValueError("COPY line ends in an escape")
            key: i64 = plan.is_key[i]
            if escaped and stop - at == 2 and line[at + 1] == 78:
                if key:
                    ends[i] = -1
                if plan.nullable[i]:
                    w.append(0)
                else:
                    w.write(plan.zeros[i])
            else:
                if plan.nullable[i]:
                    w.append(2)
                if escaped:
                    text = unescape(line[at:stop])
                    self._value(plan, i, text, 0, len(text), w, "after.")
                    if key:
                        if texts is None:
                            texts = [b""] * int(n)
                        texts[i] = text
                        ends[i] = 0
                        starts[i] = -1
                else:
                    self._value(plan, i, line, at, stop, w, "after.")
                    if key:
                        starts[i] = at
                        ends[i] = stop
            at = stop + 1
            i += 1
        if at <= end:
            raise ValueError("COPY line with too many columns")
        w.write(tail)
        self._trailer(w)
        buffer.append(self._row_key(plan, line, texts), w.getvalue())

    def _row_key(self, plan: Plan, line: bytes, texts: list[bytes] | None) -> bytes | None:
        if texts is None:
            return self._key(plan, line)
        kw = self.kw
        kw.truncate(0)
        kw.write(plan.key_header)
        for column in plan.key_columns:
            stop: i64 = plan.ends[column]
            start: i64 = plan.starts[column]
            if stop < 0:
                raise ValueError("null in a key column")
            if start < 0:
                self._value(plan, column, texts[column], 0, len(texts[column]), kw, "")
            else:
                self._value(plan, column, line, start, stop, kw, "")
        return kw.getvalue()

    def copy(
        self, plan: Plan, get: Callable[[int], tuple[int, object]], tail: bytes, buffer: TopicBuffer, limit: int
    ) -> int:
        """Take COPY lines from `get` (non-blocking) until none is there now or `buffer` holds `limit` bytes of frames.
        Returns the number of rows; when the COPY has ended, -1 minus it: -1 for none, -5 for four rows and the end."""
        rows: i64 = 0
        while buffer.size < limit:
            size, data = get(1)
            if size == 0:
                return int(rows)
            if size < 0:
                return int(-1 - rows)
            self.row(plan, bytes(data), tail, buffer)  # type: ignore[call-overload]
            rows += 1
        return int(rows)

    def key_of(self, plan: Plan, texts: list[bytes]) -> bytes:
        """The key record of a key given as the texts of its columns in key order."""
        kw = self.kw
        kw.truncate(0)
        kw.write(plan.key_header)
        for column, text in zip(plan.key_columns, texts):  # noqa: B905 - strict= is slow in compiled code
            self._value(plan, column, text, 0, len(text), kw, "")
        return kw.getvalue()

    def value_of(self, plan: Plan, text: bytes) -> tuple[bytes, str | None]:
        """The Avro bytes of one value of the plan's first column, and its exact text where they do not say all."""
        w = BytesWriter()
        self.exact = []
        self._value(plan, 0, text, 0, len(text), w, "x.")
        return w.getvalue(), self.exact[0][1] if self.exact else None


def unescape(text: bytes) -> bytes:
    """A COPY text field without its backslash escapes."""
    w = BytesWriter()
    at: i64 = 0
    end: i64 = len(text)
    while at < end:
        c: i64 = text[at]
        if c == 92:
            at += 1
            c = text[at]
            if c == 110:
                c = 10
            elif c == 116:
                c = 9
            elif c == 114:
                c = 13
            elif c == 98:
                c = 8
            elif c == 102:
                c = 12
            elif c == 118:
                c = 11
        w.append(u8(c))
        at += 1
    return w.getvalue()


def parse_long(m: bytes, at: i64, stop: i64) -> i64:
    """
    Raises:
        ValueError: not a decimal integer.
    """
    value: i64 = 0
    negative = False
    if at < stop and m[at] == 45:
        negative = True
        at += 1
    if at >= stop or stop - at > 19:
        raise ValueError("not a 64-bit integer")
    while at < stop:
        c: i64 = m[at]
        if c < 48 or c > 57:
            raise ValueError("not a 64-bit integer")
        value = value * 10 + (c - 48)
        at += 1
    return -value if negative else value


def parse_unscaled(m: bytes, at: i64, stop: i64) -> i64:
    """The digits of a numeric of at most 18 characters, without its point."""
    value: i64 = 0
    negative = False
    if at < stop and m[at] == 45:
        negative = True
        at += 1
    while at < stop:
        c: i64 = m[at]
        if c != 46:
            if c < 48 or c > 57:
                raise ValueError("not a numeric")
            value = value * 10 + (c - 48)
        at += 1
    return -value if negative else value


def fraction_digits(m: bytes, at: i64, stop: i64) -> i64:
    point: i64 = at
    while point < stop:
        if m[point] == 46:
            return stop - point - 1
        point += 1
    return 0


def two(m: bytes, at: i64) -> i64:
    """Two decimal digits."""
    a: i64 = m[at]
    b: i64 = m[at + 1]
    if a < 48 or a > 57 or b < 48 or b > 57:
        raise ValueError("not a date or time")
    return (a - 48) * 10 + b - 48


def days(year: i64, month: i64, day: i64) -> i64:
    """Days since 1970-01-01 in the proleptic Gregorian calendar; the year before 1 is 0."""
    if month <= 2:
        year -= 1
    era: i64 = year // 400
    of_era: i64 = year - era * 400
    of_year: i64 = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def is_plain_timestamp(m: bytes, at: i64, stop: i64) -> bool:
    """`YYYY-MM-DD HH:MM:SS[.ffffff]` with a four-digit year, AD."""
    size: i64 = stop - at
    return 19 <= size <= 26 and m[at + 4] == 45 and m[at + 10] == 32 and m[stop - 1] != 67


def micros(m: bytes, at: i64, stop: i64) -> i64:
    """Microseconds of a fraction `.ffffff` at m[at:stop]; 0 when empty."""
    value: i64 = 0
    digits: i64 = 0
    at += 1
    while at < stop:
        c: i64 = m[at]
        if c < 48 or c > 57 or digits == 6:
            raise ValueError("not a fraction of a second")
        value = value * 10 + (c - 48)
        digits += 1
        at += 1
    while digits < 6:
        value *= 10
        digits += 1
    return value


def parse_timestamp(m: bytes, at: i64, stop: i64, precision: i64) -> i64:
    """Microseconds since 1970, or milliseconds for a precision up to 3."""
    seconds: i64 = days(parse_long(m, at, at + 4), two(m, at + 5), two(m, at + 8)) * 86400
    seconds += two(m, at + 11) * 3600 + two(m, at + 14) * 60 + two(m, at + 17)
    value: i64 = seconds * 1000000 + (micros(m, at + 19, stop) if stop > at + 19 else 0)
    return value // 1000 if precision <= 3 else value


def parse_time(m: bytes, at: i64, stop: i64, precision: i64) -> i64:
    """`HH:MM:SS[.ffffff]`, up to 24:00:00."""
    if stop - at < 8:
        raise ValueError("not a time")
    value: i64 = (two(m, at) * 3600 + two(m, at + 3) * 60 + two(m, at + 6)) * 1000000
    if stop > at + 8:
        value += micros(m, at + 8, stop)
    return value // 1000 if precision <= 3 else value


def put_instant(w: BytesWriter, m: bytes, at: i64, stop: i64, precision: i64) -> bool:
    """`YYYY-MM-DD HH:MM:SS[.f…]+00` as ISO text in UTC with exactly `precision` fractional digits; False when the text
    is of another shape (then nothing was written)."""
    body: i64 = stop - 3
    size: i64 = body - at
    if size < 19 or size > 26 or m[at + 4] != 45 or m[at + 10] != 32 or m[body] != 43:
        return False
    if m[body + 1] != 48 or m[body + 2] != 48:
        return False
    given: i64 = size - 20 if size > 19 else 0
    if given > precision:
        return False
    put_long(w, 20 + (precision + 1 if precision else 0))
    w.write(m[at : at + 10])
    w.append(84)
    if size > 19:
        w.write(m[at + 11 : body])
    else:
        w.write(m[at + 11 : at + 19])
        if precision:
            w.append(46)
    while given < precision:
        w.append(48)
        given += 1
    w.append(90)
    return True


def nibble(c: i64) -> i64:
    if 48 <= c <= 57:
        return c - 48
    if 97 <= c <= 102:
        return c - 87
    raise ValueError("not hexadecimal")


def put_hex(w: BytesWriter, m: bytes, at: i64, stop: i64) -> None:
    """bytea in hex format (`\\x00ff`) as Avro bytes."""
    if stop - at < 2 or m[at] != 92 or m[at + 1] != 120:
        raise ValueError("bytea is not in hex format")
    put_bytes(w, bytes.fromhex(m[at + 2 : stop].decode("ascii")))


def put_digits(w: BytesWriter, value: i64, digits: i64) -> None:
    """A non-negative number with exactly `digits` decimal digits."""
    unit: i64 = 1
    while digits > 1:
        unit *= 10
        digits -= 1
    while unit > 0:
        q: i64 = value // unit
        w.append(u8(48 + q))
        value -= q * unit
        unit = unit // 10


def number_bytes(text: bytes, scale: int) -> bytes:
    """Unscaled value of a plain decimal text as Avro bytes; any size."""
    w = BytesWriter()
    put_unscaled_big(w, int(text.replace(b".", b"")) if scale >= 0 else int(text))
    return w.getvalue()
