"""The envelope of a change event: where its parts stand in the bytes, and the plan by which they are read and written.

Compiled with mypyc; the same file runs interpreted. A per-table `Plan` of opcodes says how each column stands in Avro
and how the target wants it written. Hostile or torn bytes raise one of FAULTS.
Format: Apache Avro 1.11, "Binary Encoding"; the fields are those of tailrace_schemas.avro.
"""

from typing import Final, final

from mypy_extensions import i64

# How a value stands in Avro: the W_ codes of tailrace_schemas.avro.
W_BOOLEAN: Final = 0
W_LONG: Final = 1
W_FLOAT: Final = 2
W_DOUBLE: Final = 3
W_STRING: Final = 4
W_BYTES: Final = 5
W_DECIMAL: Final = 6
W_NUMBER: Final = 7
W_ARRAY: Final = 8
W_GEOMETRY: Final = 9

# How the target wants it written.
R_INT: Final = 0
R_BOOL: Final = 1  # 1 or 0
R_FLOAT: Final = 2
R_DOUBLE: Final = 3
R_TEXT: Final = 4
R_HEX: Final = 5  # hex digits of bytes
R_HEX_PG: Final = 6  # with \x before them
R_DECIMAL: Final = 7  # parameter: scale
R_NUMBER: Final = 8
R_DATE: Final = 9
R_TIME_MS: Final = 10
R_TIME_US: Final = 11
R_STAMP_MS: Final = 12
R_STAMP_US: Final = 13
R_DURATION: Final = 14
R_BITS: Final = 15  # parameter: length
R_ARRAY_PG: Final = 16
R_ARRAY_JSON: Final = 17
R_VECTOR: Final = 18
R_EWKB: Final = 19  # Postgres: EWKB as \x and hex digits
R_GEO_MY: Final = 20  # MySQL's own form: SRID little-endian, then WKB, as hex digits
R_INSTANT: Final = 21  # ISO 8601 with Z as `date time`, for targets that know no zone
R_BITS_TEXT: Final = 22  # binary digits as text, where the target has no bit type so long
R_VECTOR_HEX: Final = 23  # MySQL vector: its floats little-endian, as hex digits
R_VECTOR_PG: Final = 25  # MySQL vector as a Postgres array literal
R_INSTANT_PG: Final = 24  # ISO 8601, years beyond four digits and before year 1 as Postgres reads them
R_YEAR: Final = 26  # MySQL: four digits, since '0' is the year 2000

# How text is made safe.
Q_RAW: Final = 0
Q_COPY: Final = 1  # Postgres COPY text
Q_TSV: Final = 2  # MySQL LOAD DATA, default escapes
Q_SQL: Final = 3  # MySQL literal

OP_CREATE: Final = 99  # c
OP_DELETE: Final = 100  # d
OP_READ: Final = 114  # r
OP_TRUNCATE: Final = 116  # t: for foreign consumers; ours go by the marker in the commit record
OP_UPDATE: Final = 117  # u

# What hostile or torn bytes raise.
FAULTS: Final = (ValueError, IndexError, KeyError, OverflowError)


class Missing:
    """The mark of a value the source did not send."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


@final
class Plan:
    """How to read and write the rows of one table under one schema id. All sequences are by column, in table order.

    `wires`, `ops`, `params`: W_ code, R_ code and its parameter; `item_*` the same for items of arrays.
    `key`: column numbers in key order, empty for a keyless table. `source` and its letters: see `Reader.skip_letters`.
    `numbers`: column name → number. `null_zero_dates`: dates that no calendar has become NULL.
    """

    def __init__(
        self,
        wires: bytes,
        ops: bytes,
        nullable: bytes,
        params: list[int],
        item_wires: bytes,
        item_ops: bytes,
        item_params: list[int],
        key: list[int],
        source: bytes,
        numbers: dict[str, int],
        quoting: int,
        null_zero_dates: bool = False,
    ) -> None:
        self.count: i64 = len(wires)
        self.wires = wires
        self.ops = ops
        self.nullable = nullable
        self.params = params
        self.item_wires = item_wires
        self.item_ops = item_ops
        self.item_params = item_params
        self.key = key
        self.source = source
        self.numbers = numbers
        self.quoting: i64 = quoting
        self.null_zero_dates = null_zero_dates


@final
class Reader:
    """A place in the bytes of one piece, and what `walk` found about the event there (-1 = null)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at: i64 = 0
        self.end: i64 = len(data)
        self.before_at: i64 = -1
        self.after_at: i64 = -1
        self.source_at: i64 = -1
        self.transaction_at: i64 = -1
        self.op: i64 = 0
        self.unavailable_at: i64 = -1
        self.exact_at: i64 = -1

    def long(self) -> i64:
        data = self.data
        at: i64 = self.at
        c: i64 = data[at]
        at += 1
        v: i64 = c & 0x7F
        shift: i64 = 7
        while c & 0x80:
            if shift > 63:
                raise ValueError("an Avro long of more than ten bytes")
            c = data[at]
            at += 1
            v |= (c & 0x7F) << shift
            shift += 7
        self.at = at
        return ((v >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(v & 1)

    def length(self) -> i64:
        """The length of bytes or a string that lie inside the event."""
        n: i64 = self.long()
        if n < 0 or n > self.end - self.at:
            raise ValueError("an Avro length points outside its event")
        return n

    def branch(self) -> i64:
        """0 or 1: which of the two branches of a union follows."""
        n: i64 = self.long()
        if n != 0 and n != 1:
            raise ValueError("an Avro union branch that does not exist")
        return n

    def text(self) -> str:
        n: i64 = self.length()
        start: i64 = self.at
        self.at = start + n
        return self.data[start : start + n].decode()

    def skip_bytes(self) -> None:
        n: i64 = self.length()
        self.at += n

    def skip_long(self) -> None:
        data = self.data
        at: i64 = self.at
        while data[at] & 0x80:
            at += 1
        self.at = at + 1

    def skip_letters(self, letters: bytes) -> None:
        """Skip fields: s string, l long, S and L the same where null comes first, E a string where null comes last."""
        i: i64 = 0
        n: i64 = len(letters)
        while i < n:
            letter: i64 = letters[i]
            if letter == 115:
                self.skip_bytes()
            elif letter == 108:
                self.skip_long()
            elif letter == 83:
                if self.branch():
                    self.skip_bytes()
            elif letter == 76:
                if self.branch():
                    self.skip_long()
            elif self.branch() == 0:
                self.skip_bytes()
            i += 1

    def skip_value(self, plan: Plan, i: i64, wire: i64) -> None:
        if wire == W_LONG:
            self.skip_long()
        elif wire in (W_STRING, W_BYTES, W_DECIMAL):
            self.skip_bytes()
        elif wire == W_BOOLEAN:
            self.at += 1
        elif wire == W_DOUBLE:
            self.at += 8
        elif wire == W_FLOAT:
            self.at += 4
        elif wire == W_NUMBER:
            self.skip_long()
            self.skip_bytes()
        elif wire == W_GEOMETRY:
            self.skip_bytes()
            if self.branch():
                self.skip_long()
        elif wire == W_ARRAY:
            self.skip_array(plan, i)
        else:
            raise ValueError("an unknown wire code")

    def skip_array(self, plan: Plan, i: i64) -> None:
        item: i64 = plan.item_wires[i]
        nullable = plan.ops[i] not in (R_VECTOR, R_VECTOR_HEX, R_VECTOR_PG)
        n: i64 = self.block()
        while n:
            while n:
                if not nullable or self.branch():
                    self.skip_value(plan, i, item)
                if self.at > self.end:
                    raise ValueError("an Avro array points outside its event")
                n -= 1
            n = self.block()

    def block(self) -> i64:
        """The number of items of the next block; 0 ends an array or map."""
        n: i64 = self.long()
        if n < 0:
            n = -n
            self.skip_long()
        if n < 0 or n > self.end - self.at:
            raise ValueError("an Avro block points outside its event")
        return n

    def skip_row(self, plan: Plan) -> None:
        wires = plan.wires
        nullable = plan.nullable
        i: i64 = 0
        while i < plan.count:
            if not nullable[i] or self.branch():
                wire: i64 = wires[i]
                if wire == W_LONG:
                    self.skip_long()
                elif wire == W_STRING:
                    self.skip_bytes()
                else:
                    self.skip_value(plan, i, wire)
            i += 1

    def walk(self, plan: Plan, start: i64, end: i64) -> None:
        """Read through the envelope in data[start:end] (behind the Confluent header) and note where its parts are."""
        self.at = start
        self.end = end
        self.before_at = -1
        self.after_at = -1
        self.transaction_at = -1
        self.unavailable_at = -1
        self.exact_at = -1
        if self.branch():
            self.before_at = self.at
            self.skip_row(plan)
        if self.branch():
            self.after_at = self.at
            self.skip_row(plan)
        self.source_at = self.at
        self.skip_letters(plan.source)
        if self.branch():
            self.transaction_at = self.at
            self.skip_bytes()
            self.skip_long()
            self.skip_long()
        if self.length() != 1:
            raise ValueError("an operation of more than one letter")
        self.op = self.data[self.at]
        self.at += 1
        if self.branch():
            self.skip_long()
        if self.branch():
            self.skip_long()
        if self.branch():
            self.skip_long()
        if self.branch():
            self.unavailable_at = self.at
            self.skip_strings(1)
        if self.branch():
            self.exact_at = self.at
            self.skip_strings(2)
        if self.at != end:
            raise ValueError("an event that is longer or shorter than its frame")
        if self.op == OP_TRUNCATE:
            return
        if self.after_at < 0 and self.op != OP_DELETE:
            raise ValueError("an event without an after image")
        if self.op != OP_CREATE and self.op != OP_READ and self.op != OP_UPDATE and self.op != OP_DELETE:
            raise ValueError("an operation that is none of c, r, u, d, t")

    def skip_strings(self, each: i64) -> None:
        n: i64 = self.block()
        while n:
            k: i64 = n * each
            while k:
                self.skip_bytes()
                k -= 1
            n = self.block()

    def unavailable(self) -> list[str]:
        out: list[str] = []
        if self.unavailable_at >= 0:
            self.at = self.unavailable_at
            n: i64 = self.block()
            while n:
                while n:
                    out.append(self.text())
                    n -= 1
                n = self.block()
        return out

    def exact(self) -> dict[str, str]:
        out: dict[str, str] = {}
        if self.exact_at >= 0:
            self.at = self.exact_at
            n: i64 = self.block()
            while n:
                while n:
                    name = self.text()
                    out[name] = self.text()
                    n -= 1
                n = self.block()
        return out
