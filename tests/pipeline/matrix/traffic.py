"""What one writer does: a sequence of transactions that follows from the seed alone, and a model of which rows exist.

A writer owns the blocks whose number leaves its own remainder, so that no two writers meet but on `counters`, and a
statement can be composed without asking the database. Versions only ever grow, also of a key that comes back: each
insert and key change takes its version from a clock of the writer, in steps far apart; each update adds one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from pipeline.matrix.engine import Dialect, assignments, insert
from pipeline.matrix.tables import (
    CHILDREN,
    COPIES_TAG,
    COUNTERS,
    DOCUMENTS,
    JOURNAL,
    PARENTS,
    SEATS,
    TABLES,
    WORDS,
    Column,
    Table,
    Value,
    key_of,
    parent_of,
    row_of,
    value_of,
)

VERSION_STEP = 1_000_000
GROWTH = 1.25  # new rows also beyond the filled range
TRIES = 60


@dataclass(frozen=True, slots=True)
class Transaction:
    """`changes`: rows it changes for good; `done`: how often each kind of change is among them."""

    statements: list[str]
    changes: int
    done: Counter[str]

    @property
    def text(self) -> str:
        return ";\n".join(self.statements)


@dataclass(slots=True)
class _Model:
    """What differs from the freshly filled tables, in layers: one of the writer, one of the open transaction, one for
    each savepoint in it."""

    layers: list[dict[tuple[str, int], object]] = field(default_factory=lambda: [{}])

    def get(self, key: tuple[str, int], default: object) -> object:
        for layer in reversed(self.layers):
            if key in layer:
                return layer[key]
        return default

    def put(self, key: tuple[str, int], value: object) -> None:
        self.layers[-1][key] = value

    def push(self) -> None:
        self.layers.append({})

    def drop(self) -> None:
        self.layers.pop()

    def merge(self) -> None:
        top = self.layers.pop()
        self.layers[-1].update(top)


class Traffic:
    """Writer number `writer` of `writers`, over tables filled with `rows` rows."""

    def __init__(self, dialect: Dialect, seed: int, writer: int, writers: int, rows: int) -> None:
        self._dialect, self._writer, self._writers = dialect, writer, writers
        self._draw = Random(f"{seed} writer {writer}")
        self._blocks = {table.name: table.blocks(rows) for table in TABLES}
        self._model = _Model()
        self._version = 0
        self._tables = [table for table in TABLES if table.traffic]
        self._weights = [table.traffic for table in self._tables]
        self._changes = 0
        self._done: Counter[str] = Counter()
        # Numbers deleted or moved away lately: they come back more often than chance would bring them back.
        self._gone: dict[str, deque[int]] = {table.name: deque(maxlen=50) for table in TABLES}

    def next(self) -> Transaction:
        """The next transaction, BEGIN and its end included; the model takes it as done."""
        self._changes, self._done = 0, Counter()
        self._model.push()
        statements = ["BEGIN"]
        for _ in range(self._size()):
            if self._draw.random() < 0.03:
                statements += self._savepoint()
            else:
                statements += self._step()
        if self._draw.random() < 0.04:
            self._model.drop()
            return Transaction([*statements, "ROLLBACK"], 0, Counter(rolled_back=1))
        self._model.merge()
        self._done["transactions"] = 1
        return Transaction([*statements, "COMMIT"], self._changes, self._done)

    def _size(self) -> int:
        most = self._draw.choices((1, 8, 20, 50), (35, 45, 15, 5))[0]
        return self._draw.randint(1 + most // 3, most)

    def _savepoint(self) -> list[str]:
        """A part of a transaction that is taken back, or kept."""
        before = (self._changes, Counter(self._done))
        self._model.push()
        inside = [statement for _ in range(self._draw.randint(1, 6)) for statement in self._step()]
        if self._draw.random() < 0.6:
            self._model.drop()
            self._changes, self._done = before
            self._done["savepoint_undone"] += 1
            return ["SAVEPOINT s", *inside, "ROLLBACK TO SAVEPOINT s"]
        self._model.merge()
        return ["SAVEPOINT s", *inside, "RELEASE SAVEPOINT s"]

    # ---- which rows

    def _exists(self, table: Table, number: int) -> bool:
        block = number // 10
        filled = table.name == COUNTERS.name or 1 <= block <= self._blocks[table.name]
        return bool(self._model.get((table.name, number), filled and str(number % 10) in table.filled))

    def _some_number(self, table: Table) -> int:
        span = int(self._blocks[table.name] * GROWTH) + 2 * self._writers
        block = self._draw.randrange(1, span)
        block += (self._writer - block) % self._writers
        return block * 10 + self._draw.randrange(10)

    def _existing(self, table: Table) -> int | None:
        return self._pick(table, lambda number: self._exists(table, number))

    def _free(self, table: Table) -> int | None:
        gone = self._gone[table.name]
        if gone and self._draw.random() < 0.3:
            number = self._draw.choice(gone)
            if self._is_free(table, number):
                return number
        return self._pick(table, lambda number: self._is_free(table, number))

    def _is_free(self, table: Table, number: int) -> bool:
        if self._exists(table, number):
            return False
        digit = number % 10
        if table is PARENTS:
            return digit in (1, 2, 3)
        if table is CHILDREN:
            return self._exists(PARENTS, parent_of(number))
        if table is WORDS and digit in (8, 9) and self._dialect.case_insensitive:
            return not self._exists(WORDS, number + 1 if digit == 8 else number - 1)
        return not (table is SEATS and self._seat_taken(number))

    def _pick(self, table: Table, fits: Callable[[int], bool]) -> int | None:
        for _ in range(TRIES):
            number = self._some_number(table)
            if fits(number):
                return number
        return None

    def _put(self, table: Table, number: int, exists: bool) -> None:
        self._model.put((table.name, number), exists)
        if not exists:
            self._gone[table.name].append(number)

    # ---- statements

    def _next_version(self) -> int:
        self._version += 1
        return self._version * VERSION_STEP

    def _count(self, kind: str, changes: int = 1) -> None:
        self._done[kind] += 1
        self._changes += changes

    def _where(self, table: Table, *numbers: int) -> str:
        """Not `(a, b) IN (…)`, for which MariaDB reads the whole table."""
        names = [self._dialect.quote(name) for name in table.identity]
        keys = [map(self._dialect.literal, key_of(table, number)) for number in numbers]
        alike = [" AND ".join(f"{n} = {v}" for n, v in zip(names, key, strict=True)) for key in keys]
        return f"WHERE {' OR '.join(f'({one})' for one in alike)}"

    def _step(self) -> list[str]:
        """The statements of one small deed; none where chance asked for what cannot be."""
        table = self._draw.choices(self._tables, self._weights)[0]
        if table is COUNTERS:
            return self._count_up()
        if table is SEATS and self._draw.random() < 0.5:
            return self._swap_seats()
        if table is JOURNAL and self._draw.random() < 0.2:
            return self._copies()
        kind = self._draw.random()
        if kind < 0.5:
            return self._update(table)
        if kind < 0.7:
            return self._insert(table)
        if kind < 0.83:
            return self._delete(table)
        if kind < 0.9:
            return self._delete_and_insert(table)
        return self._move(table) if table.moves else self._update(table)

    def _insert(self, table: Table) -> list[str]:
        numbers: list[int] = []
        for _ in range(self._draw.choice((1, 1, 1, 3))):
            number = self._free(table)
            if number is not None:
                self._put(table, number, True)
                numbers.append(number)
        if not numbers:
            return []
        self._count("inserts", len(numbers))
        rows = [self._new_row(table, number) for number in numbers]
        return [insert(self._dialect, table, rows)]

    def _new_row(self, table: Table, number: int) -> list[Value]:
        if table is SEATS:
            self._set_seat(number, number)
        elif table is CHILDREN:
            self._model.put(("parent of", number), parent_of(number))
        return row_of(table, number, self._next_version(), self._draw)

    def _update(self, table: Table) -> list[str]:
        picked = (self._existing(table) for _ in range(self._draw.choice((1, 1, 1, 1, 4))))
        numbers = sorted({number for number in picked if number is not None})
        if not numbers:
            return []
        self._count("updates", len(numbers))
        changed = {column.name: value_of(column, self._draw) for column in self._some_columns(table)}
        if table is CHILDREN and len(numbers) == 1:
            changed |= self._new_parent(numbers[0])
        return [self._update_statement(table, self._set(changed), *numbers)]

    def _set(self, values: dict[str, Value]) -> str:
        version = self._dialect.quote("version")
        return ", ".join(part for part in (assignments(self._dialect, values), f"{version} = {version} + 1") if part)

    def _update_statement(self, table: Table, assigned: str, *numbers: int) -> str:
        return f"UPDATE {self._dialect.quote(table.name)} SET {assigned} {self._where(table, *numbers)}"

    def _some_columns(self, table: Table) -> list[Column]:
        fixed = {*table.identity, "version", "seat", "parent"}
        if table is DOCUMENTS and self._draw.random() < 0.8:
            fixed.add("body")  # most changes leave what is kept out of line as it is
        free = [column for column in table.columns if column.name not in fixed]
        return self._draw.sample(free, min(len(free), self._draw.choice((0, 1, 1, 2, 3))))

    def _new_parent(self, child: int) -> dict[str, Value]:
        """Another parent of the same block, if there is one. `_delete` must know it."""
        parent = parent_of(child, self._draw.randrange(3))
        if not self._exists(PARENTS, parent):
            return {}
        self._model.put(("parent of", child), parent)
        return {"parent": parent}

    def _delete(self, table: Table) -> list[str]:
        number = self._existing(table)
        if number is None:
            return []
        self._count("deletes")
        self._forget(table, number)
        return [f"DELETE FROM {self._dialect.quote(table.name)} {self._where(table, number)}"]

    def _forget(self, table: Table, number: int) -> None:
        self._put(table, number, False)
        if table is PARENTS:
            for child in range(number // 10 * 10, number // 10 * 10 + 10):
                if self._exists(CHILDREN, child) and self._parent(child) == number:
                    self._put(CHILDREN, child, False)
                    self._count("cascades")

    def _parent(self, child: int) -> object:
        return self._model.get(("parent of", child), parent_of(child))

    def _delete_and_insert(self, table: Table) -> list[str]:
        """The same key, and for a seat the same place, gone and back in one transaction."""
        number = self._existing(table)
        if number is None or table is PARENTS:
            return []
        if table is CHILDREN and not self._exists(PARENTS, parent_of(number)):
            return []
        if table is SEATS and self._seat_taken(number, but=number):
            return []
        self._count("deletes_with_insert", 2)
        gone = f"DELETE FROM {self._dialect.quote(table.name)} {self._where(table, number)}"
        return [gone, insert(self._dialect, table, [self._new_row(table, number)])]

    def _move(self, table: Table) -> list[str]:
        """A key changes: to a near one, a far one, one that was deleted, or only in its case."""
        old = self._existing(table)
        if old is None:
            return []
        new = self._case_twin(old) if table is WORDS else None
        new = self._free(table) if new is None else new
        if new is None or (table is CHILDREN and not self._move_child(old, new)):
            return []
        if table is SEATS:
            self._set_seat(new, self._seat(old))
        self._put(table, old, False)
        self._put(table, new, True)
        self._count("key_changes")
        values = dict(zip(table.identity, key_of(table, new), strict=True)) | {"version": self._next_version()}
        return [self._update_statement(table, assignments(self._dialect, values), old)]

    def _case_twin(self, number: int) -> int | None:
        digit = number % 10
        if digit not in (8, 9) or self._draw.random() < 0.3:
            return None
        twin = number + 1 if digit == 8 else number - 1
        return None if self._exists(WORDS, twin) else twin

    def _move_child(self, old: int, new: int) -> bool:
        """A child keeps its parent, which must be one that the new number's block can lose."""
        if old // 10 != new // 10:
            return False
        self._model.put(("parent of", new), self._parent(old))
        return True

    def _count_up(self) -> list[str]:
        """Rows that every writer changes, in one order."""
        numbers = sorted(self._draw.sample(range(10), self._draw.choice((1, 1, 2))))
        self._count("updates", len(numbers))
        n = self._dialect.quote("n")
        return [self._update_statement(COUNTERS, f"{n} = {n} + 1, {self._set({})}", number) for number in numbers]

    # ---- seats: unique values that move between rows

    def _seat(self, number: int) -> int:
        found = self._model.get(("seat of", number), number)
        assert isinstance(found, int)
        return found

    def _set_seat(self, number: int, seat: int) -> None:
        self._model.put(("seat of", number), seat)
        self._model.put(("sitter of", seat), number)

    def _seat_taken(self, seat: int, but: int = -1) -> bool:
        sitter = self._model.get(("sitter of", seat), seat)
        assert isinstance(sitter, int)
        return sitter != but and self._exists(SEATS, sitter) and self._seat(sitter) == seat

    def _swap_seats(self) -> list[str]:
        """Two or three rows give their seats on in a circle."""
        picked = {self._existing(SEATS) for _ in range(self._draw.choice((2, 3)))}
        rows = sorted(number for number in picked if number is not None)
        if len(rows) < 2:
            return []
        seats = [self._seat(number) for number in rows]
        given = seats[1:] + seats[:1]
        for number, seat in zip(rows, given, strict=True):
            self._set_seat(number, seat)
        if self._dialect.swap_in_one_statement and self._draw.random() < 0.5:
            self._count("swaps", len(rows))
            cases = " ".join(f"WHEN {number} THEN {seat}" for number, seat in zip(rows, given, strict=True))
            return [self._update_statement(SEATS, f"seat = CASE id {cases} END, {self._set({})}", *rows)]
        self._count("swaps", len(rows) + 1)
        steps = [(rows[0], -seats[0]), *zip(rows[1:], given[1:], strict=True), (rows[0], given[0])]
        # The last first: each seat is free when it is taken.
        first, *middle, last = steps
        order = [first, *reversed(middle), last]
        return [self._update_statement(SEATS, self._set({"seat": seat}), number) for number, seat in order]

    # ---- journal: rows without a key

    def _copies(self) -> list[str]:
        """One more of the equal rows, or one less: the database chooses which."""
        name = self._dialect.quote(JOURNAL.name)
        tag = f"{self._dialect.quote('tag')} = {COPIES_TAG}"
        self._count("copies")
        if self._draw.random() < 0.5:
            return [f"INSERT INTO {name} SELECT * FROM {name} WHERE {tag} LIMIT 1"]
        return [self._dialect.delete_one(JOURNAL.name, tag)]
