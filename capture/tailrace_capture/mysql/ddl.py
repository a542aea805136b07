"""What a statement in the binary log does to tables: just enough to know truncates, drops, renames and data changes.

Pure: text to a `Statement`. No grammar: a tokenizer, and the first words. Whatever is not recognised as harmless and
could change rows counts as `data` or `unclear`, never as nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tailrace_capture.mysql.binlog import xid_key
from tailrace_schemas.table import TableId

Kind = Literal[
    "begin",
    "commit",
    "rollback",
    "savepoint",
    "rollback to",
    "xa start",
    "xa end",
    "xa commit",
    "xa rollback",
    "truncate",  # all rows of `tables` are gone
    "drop",  # `tables` are gone; `database` when a whole one is
    "rename",  # pairs of `tables`: old, new, old, new …
    "create",  # `tables[0]` is made; `replace` when an old one of that name is dropped first
    "alter",  # `tables[0]` looks or behaves otherwise
    "reload",  # `tables[0]` has other rows, and no event says which
    "data",  # rows of `tables` (and of what their triggers write) change
    "unclear",  # may change any table
    "other",  # changes no row of a table
]


@dataclass(frozen=True, slots=True)
class Statement:
    kind: Kind
    tables: tuple[TableId, ...] = ()
    database: str = ""
    replace: bool = False
    name: str = ""
    xid: bytes = b""


_TOKEN = re.compile(
    r"""(?P<comment>/\*(?!M?!).*?\*/|--(?=\s|$)[^\n]*|\#[^\n]*)
      | (?P<open>/\*M?!\d*) | (?P<close>\*/)
      | `(?P<quoted>(?:[^`]|``)*)`
      | (?P<string>[xXbBnN]?'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*")
      | (?P<word>[\w$@\u0080-\U0010FFFF]+)
      | (?P<mark>\S)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    kind: Literal["word", "name", "string", "mark"]

    def says(self, *words: str) -> bool:
        return self.kind == "word" and self.text.upper() in words


def _tokens(text: str) -> list[Token]:
    """Comments left out; what stands in executable comments (`/*!50100 … */`) counts."""
    out = []
    for match in _TOKEN.finditer(text):
        if match["quoted"] is not None:
            out.append(Token(match["quoted"].replace("``", "`"), "name"))
        elif match["string"] is not None:
            out.append(Token(match["string"], "string"))
        elif match["word"] is not None:
            out.append(Token(match["word"], "word"))
        elif match["mark"] is not None:
            out.append(Token(match["mark"], "mark"))
    return out


class _Words:
    """Tokens with a place among them."""

    def __init__(self, tokens: list[Token], database: str) -> None:
        self.tokens, self.at, self.database = tokens, 0, database

    def take(self, *words: str) -> bool:
        """Skip the next token if it is one of `words`."""
        if self.at < len(self.tokens) and self.tokens[self.at].says(*words):
            self.at += 1
            return True
        return False

    def mark(self, text: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == Token(text, "mark"):
            self.at += 1
            return True
        return False

    def rest_has(self, *words: str) -> bool:
        return any(token.says(*words) for token in self.tokens[self.at :])

    @property
    def ended(self) -> bool:
        return self.at >= len(self.tokens)

    def table(self) -> TableId | None:
        """`t`, `db`.`t`; a double-quoted name counts as a name (ANSI_QUOTES)."""
        first = self._name()
        if first is None:
            return None
        if self.mark("."):
            second = self._name()
            return None if second is None else TableId(first, second)
        return TableId(self.database, first)

    def _name(self) -> str | None:
        if self.ended:
            return None
        token = self.tokens[self.at]
        if token.kind == "string" and token.text.startswith('"'):
            self.at += 1
            return token.text[1:-1].replace('""', '"')
        if token.kind not in ("word", "name"):
            return None
        self.at += 1
        return token.text

    def table_list(self) -> tuple[TableId, ...]:
        out = []
        while (table := self.table()) is not None:
            out.append(table)
            if not self.mark(","):
                break
        return tuple(out)


def parse_statement(text: str, database: str) -> Statement:
    """`database`: the session's, for names without one."""
    words = _Words(_tokens(text), database)
    while words.mark("("):
        pass
    if words.take("SET") and words.take("STATEMENT"):  # MariaDB: SET STATEMENT variable = value … FOR statement
        while not words.ended and not words.take("FOR"):
            words.at += 1
    elif words.at:
        return Statement("other") if words.tokens[words.at - 1].says("SET") else Statement("unclear")
    if words.ended:
        return Statement("other")
    first = words.tokens[words.at].text.upper()
    words.at += 1
    parse = _FIRST_WORDS.get(first)
    if parse is not None:
        return parse(words)
    return Statement("other" if first in _HARMLESS else "unclear")


def alter_parts(text: str) -> list[list[Token]] | None:
    """What an ALTER TABLE does, one list of tokens for each act; None for any other statement."""
    words = _Words(_tokens(text), "")
    if not words.take("ALTER"):
        return None
    words.take("ONLINE", "OFFLINE")
    words.take("IGNORE")
    if not words.take("TABLE"):
        return None
    _if_exists(words)
    return None if words.table() is None else split(words.tokens[words.at :])


def split(tokens: list[Token]) -> list[list[Token]]:
    """At the commas outside parentheses."""
    out: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == "mark":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token == Token(",", "mark"):
            out.append([])
        else:
            out[-1].append(token)
    return out


_HARMLESS = frozenset(
    re.findall(
        r"\w+",
        """GRANT REVOKE ANALYZE OPTIMIZE REPAIR CHECK CHECKSUM FLUSH RESET SHOW USE LOCK UNLOCK INSTALL UNINSTALL PURGE
        CHANGE START STOP KILL HANDLER HELP DESCRIBE EXPLAIN CACHE BINLOG SIGNAL BACKUP SHUTDOWN CLONE RESTART""",
    )
)


def _begin(_: _Words) -> Statement:
    return Statement("begin")


def _commit(_: _Words) -> Statement:
    return Statement("commit")


def _rollback(words: _Words) -> Statement:
    words.take("WORK")
    if words.take("TO"):
        words.take("SAVEPOINT")
        return Statement("rollback to", name=words.tokens[words.at].text if not words.ended else "")
    return Statement("rollback")


def _savepoint(words: _Words) -> Statement:
    return Statement("savepoint", name=words.tokens[words.at].text if not words.ended else "")


def _release(_: _Words) -> Statement:
    return Statement("other")


_XA_KINDS: dict[str, Kind] = {
    "START": "xa start",
    "BEGIN": "xa start",
    "END": "xa end",
    "COMMIT": "xa commit",
    "ROLLBACK": "xa rollback",
}


def _xa(words: _Words) -> Statement:
    """`XA COMMIT X'6162',X'',1`, as the servers write it."""
    kind = None if words.ended else _XA_KINDS.get(words.tokens[words.at].text.upper())
    if kind is None:
        return Statement("unclear")
    parts = [token for token in words.tokens[words.at + 1 :] if token.kind in ("string", "word")]
    halves = [_hex(token.text) for token in parts if token.kind == "string"] + [b"", b""]
    numbers = [int(token.text) for token in parts if token.kind == "word" and token.text.isdigit()]
    return Statement(kind, xid=xid_key(numbers[0] if numbers else 1, halves[0], halves[1]))


def _hex(text: str) -> bytes:
    if text[:1] in "xX":
        return bytes.fromhex(text[2:-1])
    return text[1:-1].encode()


def _truncate(words: _Words) -> Statement:
    words.take("TABLE")
    table = words.table()
    return Statement("unclear") if table is None else Statement("truncate", (table,))


def _drop(words: _Words) -> Statement:
    if words.take("TEMPORARY"):
        return Statement("other")
    if words.take("DATABASE", "SCHEMA"):
        _if_exists(words)
        table = words.table()
        return Statement("drop", database="" if table is None else table.name)
    if not words.take("TABLE", "TABLES"):
        return Statement("alter", ()) if words.take("INDEX") else Statement("other")
    _if_exists(words)
    return Statement("drop", words.table_list())


def _if_exists(words: _Words) -> None:
    if words.take("IF"):
        words.take("NOT")
        words.take("EXISTS")


def _rename(words: _Words) -> Statement:
    if not words.take("TABLE", "TABLES"):
        return Statement("other")
    _if_exists(words)
    pairs: list[TableId] = []
    while (old := words.table()) is not None:
        if words.take("WAIT"):
            words.at += 1
        words.take("NOWAIT")
        if not words.take("TO") or (new := words.table()) is None:
            return Statement("unclear")
        pairs += [old, new]
        if not words.mark(","):
            break
    return Statement("rename", tuple(pairs))


def _create(words: _Words) -> Statement:
    replace = False
    if words.take("OR"):
        replace = words.take("REPLACE")
    if words.take("TEMPORARY") or not words.take("TABLE"):
        return Statement("other")
    _if_exists(words)
    table = words.table()
    return Statement("unclear") if table is None else Statement("create", (table,), replace=replace)


# ALTER TABLE words after which rows are others than before, without an event for any of them.
_PARTITION_WORDS = ("PARTITION", "TABLESPACE")


def _alter(words: _Words) -> Statement:
    words.take("ONLINE", "OFFLINE")
    words.take("IGNORE")
    if not words.take("TABLE"):
        return Statement("other")
    _if_exists(words)
    table = words.table()
    if table is None:
        return Statement("unclear")
    if words.rest_has(*_PARTITION_WORDS) and words.rest_has(
        "TRUNCATE", "DROP", "EXCHANGE", "CONVERT", "IMPORT", "DISCARD"
    ):
        return Statement("reload", (table,))
    tokens = words.tokens
    for i in range(words.at, len(tokens) - 1):
        if tokens[i].says("RENAME") and not tokens[i + 1].says("COLUMN", "INDEX", "KEY", "CONSTRAINT"):
            words.at = i + 1
            words.take("TO", "AS")
            words.mark("=")
            new = words.table()
            return Statement("unclear") if new is None else Statement("rename", (table, new))
    return Statement("alter", (table,))


def _data(words: _Words) -> Statement:
    """Every name that could be a table, with and without the next one behind a dot."""
    start = words.at - 1
    deletes_all = words.tokens[start].says("DELETE") and words.take("FROM")
    if deletes_all:
        table = words.table()
        words.mark(";")
        if table is not None and words.ended:
            return Statement("truncate", (table,))
    found: list[TableId] = []
    words.at = start + 1
    while not words.ended:
        table = words.table()
        if table is None:
            words.at += 1
        else:
            found.append(table)
    return Statement("data", tuple(dict.fromkeys(found)))


def _unclear(_: _Words) -> Statement:
    return Statement("unclear")


_FIRST_WORDS = {
    "BEGIN": _begin,
    "COMMIT": _commit,
    "ROLLBACK": _rollback,
    "SAVEPOINT": _savepoint,
    "RELEASE": _release,
    "XA": _xa,
    "TRUNCATE": _truncate,
    "DROP": _drop,
    "RENAME": _rename,
    "CREATE": _create,
    "ALTER": _alter,
    **dict.fromkeys(("INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH", "IMPORT"), _data),
    **dict.fromkeys(("SELECT", "CALL", "DO", "EXECUTE"), _unclear),
}
