"""MySQL's binary JSON to the text the server prints for it, and partial updates (JSON_SET … in PARTIAL_JSON) applied.

Pure: bytes in, UTF-8 text out. Numbers keep their kind (1.0 stays 1.0, decimals all their digits), times print as the
server prints them, opaque values as `base64:type…`; object members keep their stored order.
Format: MySQL source, `sql-common/json_binary.h`; differences: `sql-common/json_diff.h`; text: `json_dom.cc`.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass

from librt.strings import BytesWriter

from tailrace_capture.mysql.binlog import Reader, corrupt, unknown
from tailrace_capture.mysql.values import (
    calendar_clock_text,
    calendar_text,
    decimal_big,
    decimal_size,
    put_clock,
    put_fraction,
)

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = 0, 1, 2, 3, 4
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING, _OPAQUE = 5, 6, 7, 8, 9, 10, 11, 12, 15
_FIXED = {_INT16: "<h", _UINT16: "<H", _INT32: "<i", _UINT32: "<I", _INT64: "<q", _UINT64: "<Q"}
_LITERALS = {0: "null", 1: "true", 2: "false"}
_MYSQL_DATE, _MYSQL_TIME, _MYSQL_DATETIME, _MYSQL_TIMESTAMP, _MYSQL_DECIMAL = 10, 11, 12, 7, 246
MAX_DEPTH = 150  # the server allows 100


@dataclass(slots=True)
class Scalar:
    """A value in its final text form."""

    text: str


Node = Scalar | dict[str, "Node"] | list["Node"]


def to_text(data: bytes) -> bytes:
    """
    Raises:
        StopError: not binary JSON, or a type that is not known.
    """
    return dump(parse(data)).encode("utf-8", "surrogatepass")


def parse(data: bytes) -> Node:
    if not data:
        return Scalar("null")  # json_binary.cc: an empty value is what a failed ALTER leaves; it reads as null
    try:
        return _value(data[0], data, 1, len(data), 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise corrupt("a JSON value ends in the middle of a field") from error


def _value(kind: int, data: bytes, at: int, end: int, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise corrupt("a JSON value deeper than the server allows")
    if kind in (_SMALL_OBJECT, _LARGE_OBJECT):
        return _container(data, at, end, depth, large=kind == _LARGE_OBJECT, is_object=True)
    if kind in (_SMALL_ARRAY, _LARGE_ARRAY):
        return _container(data, at, end, depth, large=kind == _LARGE_ARRAY, is_object=False)
    if kind == _LITERAL:
        return _literal(data[at])
    if kind in _FIXED:
        return Scalar(str(struct.unpack_from(_FIXED[kind], data, at)[0]))
    if kind == _DOUBLE:
        return Scalar(double_text(struct.unpack_from("<d", data, at)[0]))
    if kind == _STRING:
        size, at = _length(data, at)
        _inside(at, size, end)
        return Scalar(quoted(data[at : at + size].decode("utf-8", "surrogatepass")))
    if kind == _OPAQUE:
        size, after = _length(data, at + 1)
        _inside(after, size, end)
        return Scalar(_opaque(data[at], data[after : after + size]))
    raise unknown(f"a JSON value of type {kind}")


def _inside(at: int, size: int, end: int) -> None:
    if at + size > end:
        raise corrupt("a JSON value reaches beyond its column")


def _literal(code: int) -> Scalar:
    if code not in _LITERALS:
        raise unknown(f"JSON literal {code}")
    return Scalar(_LITERALS[code])


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, least significant first; returns (length, place after it)."""
    size = 0
    for i in range(5):
        byte = data[at + i]
        size |= (byte & 0x7F) << (7 * i)
        if not byte & 0x80:
            return size, at + i + 1
    raise corrupt("a JSON length longer than 5 bytes")


def _container(data: bytes, at: int, end: int, depth: int, *, large: bool, is_object: bool) -> Node:
    width = 4 if large else 2
    count = _uint(data, at, width)
    size = _uint(data, at + width, width)
    _inside(at, size, end)
    entries = at + 2 * width
    values = entries + (count * (width + 2) if is_object else 0)
    if values + count * (width + 1) > at + size:
        raise corrupt("a JSON container with more members than bytes")
    nodes = [_entry(data, values + i * (width + 1), width, at, at + size, depth) for i in range(count)]
    if not is_object:
        return nodes
    keys = [_key(data, entries + i * (width + 2), width, at, at + size) for i in range(count)]
    return dict(zip(keys, nodes, strict=True))


def _uint(data: bytes, at: int, width: int) -> int:
    if at + width > len(data):
        raise corrupt("a JSON value ends in the middle of a field")
    return int.from_bytes(data[at : at + width], "little")


def _key(data: bytes, entry: int, width: int, base: int, end: int) -> str:
    start, size = base + _uint(data, entry, width), _uint(data, entry + width, 2)
    _inside(start, size, end)
    return data[start : start + size].decode("utf-8", "surrogatepass")


def _entry(data: bytes, entry: int, width: int, base: int, end: int, depth: int) -> Node:
    """A value entry: type, then the value itself where it fits the width, else its offset from the container."""
    kind = data[entry]
    inlined = kind in (_LITERAL, _INT16, _UINT16) or (width == 4 and kind in (_INT32, _UINT32))
    if inlined:
        return _value(kind, data, entry + 1, end, depth + 1)
    offset = _uint(data, entry + 1, width)
    if offset == 0:
        raise corrupt("a JSON container that holds itself")
    return _value(kind, data, base + offset, end, depth + 1)


def _opaque(kind: int, data: bytes) -> str:
    if kind == _MYSQL_DECIMAL:
        return _decimal_text(data)
    if kind in (_MYSQL_DATE, _MYSQL_TIME, _MYSQL_DATETIME, _MYSQL_TIMESTAMP):
        if len(data) != 8:
            raise corrupt("a JSON time of another size than 8 bytes")
        return f'"{_time_text(kind, int.from_bytes(data, "little", signed=True))}"'
    return f'"base64:type{kind}:{base64.b64encode(data).decode()}"'


def _decimal_text(data: bytes) -> str:
    precision, scale = data[0], data[1]
    if not scale <= precision <= 65 or len(data) != 2 + decimal_size(precision, scale):
        raise corrupt("a JSON decimal of impossible size")
    value = decimal_big(data[2:], precision, scale)
    if not scale:
        return str(value)
    digits = f"{abs(value):0{scale + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def _time_text(kind: int, packed: int) -> str:
    negative, packed = packed < 0, abs(packed)
    whole, micros = packed >> 24, packed & 0xFFFFFF
    clock = (whole >> 12 & 0x1F) * 3600 + (whole >> 6 & 63) * 60 + (whole & 63)
    if kind == _MYSQL_TIME:
        out = BytesWriter()
        put_clock(out, (whole >> 12 & 0x3FF) * 3600 + (whole >> 6 & 63) * 60 + (whole & 63))
        put_fraction(out, micros, 6)
        return ("-" if negative else "") + out.getvalue().decode()
    year_month, day = whole >> 22, whole >> 17 & 31
    year, month = year_month // 13, year_month % 13
    if kind == _MYSQL_DATE:
        return calendar_text(year, month, day).decode()
    return calendar_clock_text(year, month, day, clock, micros, 6).decode()


def double_text(value: float) -> str:
    """Shortest digits that give the value back: plain between 1e-15 and 1e15, else with an exponent, and never looking
    like an integer (strings/dtoa.cc, my_gcvt; MAX_DECPT_FOR_F_FORMAT is 15)."""
    mantissa, _, exponent = repr(value).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.removeprefix("-").partition(".")
    digits = (whole + part).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + part) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if not -14 <= point <= 15:
        rest = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    return f"{sign}{digits[:point]}.{digits[point:]}"


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = {ord(plain): escaped for plain, escaped in _ESCAPES.items()} | {
    code: f"\\u{code:04x}" for code in range(32) if chr(code) not in _ESCAPES
}


def quoted(text: str) -> str:
    return '"' + text.translate(_ESCAPED) + '"'


def dump(node: Node) -> str:
    """Text as the server prints it: members in stored order, `, ` and `: ` between."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, list):
        return "[" + ", ".join(dump(item) for item in node) + "]"
    return "{" + ", ".join(f"{quoted(name)}: {dump(item)}" for name, item in node.items()) + "}"


# ---- partial updates

_REPLACE, _INSERT, _REMOVE = 0, 1, 2


def patch(before: bytes, differences: bytes) -> bytes:
    """The text after the differences of a PARTIAL_UPDATE_ROWS value are applied to the binary value before.

    Raises:
        StopError: an unknown operation, or a path that is not in the value.
    """
    root = parse(before)
    reader = Reader(differences)
    while reader.left:
        operation = reader.uint(1)
        if operation not in (_REPLACE, _INSERT, _REMOVE):
            raise unknown(f"JSON difference operation {operation}")
        path = reader.take(reader.packed()).decode()
        new = parse(reader.take(reader.packed())) if operation != _REMOVE else None
        root = _applied(root, parse_path(path), operation, new)
    return dump(root).encode("utf-8", "surrogatepass")


def _applied(root: Node, path: list[str | int], operation: int, new: Node | None) -> Node:
    if not path:
        if operation != _REPLACE or new is None:
            raise corrupt("a JSON difference at the root that does not replace it")
        return new
    parent = root
    for step in path[:-1]:
        parent = _child(parent, step)
    last = path[-1]
    if isinstance(parent, dict) and isinstance(last, str):
        _change_member(parent, last, operation, new)
    elif isinstance(parent, list) and isinstance(last, int):
        _change_item(parent, last, operation, new)
    else:
        raise corrupt("a JSON difference with a path that does not fit the value")
    return root


def _child(node: Node, step: str | int) -> Node:
    if isinstance(node, dict) and isinstance(step, str) and step in node:
        return node[step]
    if isinstance(node, list) and isinstance(step, int) and step < len(node):
        return node[step]
    raise corrupt("a JSON difference with a path that is not in the value")


def _change_member(parent: dict[str, Node], name: str, operation: int, new: Node | None) -> None:
    if operation == _REMOVE or new is None:
        if parent.pop(name, None) is None:
            raise corrupt("a JSON difference removes what is not there")
        return
    added = name not in parent
    parent[name] = new
    if added:
        _sort(parent)


def _sort(members: dict[str, Node]) -> None:
    """Members are kept by length of the name, then by its bytes (json_dom.h, Json_key_comparator)."""
    ordered = sorted(members.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
    members.clear()
    members.update(ordered)


def _change_item(parent: list[Node], index: int, operation: int, new: Node | None) -> None:
    if operation == _INSERT and new is not None:
        parent.insert(index, new)
        return
    if index >= len(parent):
        raise corrupt("a JSON difference with a path that is not in the value")
    if operation == _REPLACE and new is not None:
        parent[index] = new
    else:
        del parent[index]


def parse_path(text: str) -> list[str | int]:
    """`$.name`, `$."any name"`, `$[3]`: the forms that the server writes."""
    if not text.startswith("$"):
        raise corrupt("a JSON path that does not begin with $")
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        if text[at] == "[":
            stop = text.find("]", at)
            if stop < 0 or not text[at + 1 : stop].isdigit():
                raise corrupt("a JSON path with an index that is not a number")
            steps.append(int(text[at + 1 : stop]))
            at = stop + 1
        elif text[at : at + 2] == '."':
            name, at = _quoted_name(text, at + 2)
            steps.append(name)
        elif text[at] == ".":
            stop = at + 1
            while stop < len(text) and text[stop] not in ".[":
                stop += 1
            steps.append(text[at + 1 : stop])
            at = stop
        else:
            raise corrupt("a JSON path that cannot be read")
    return steps


def _quoted_name(text: str, at: int) -> tuple[str, int]:
    import json

    stop = at
    while stop < len(text) and text[stop] != '"':
        stop += 2 if text[stop] == "\\" else 1
    if stop >= len(text):
        raise corrupt("a JSON path with a name that does not end")
    try:
        return str(json.loads(text[at - 1 : stop + 1], strict=False)), stop + 1
    except ValueError as error:
        raise corrupt("a JSON path with a name that cannot be read") from error
