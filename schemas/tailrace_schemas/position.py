"""A place in a source's log, with containment instead of a total order (rule A1), and its text form.

lsn:0/16B3748                             Postgres: end LSN of the last commit (everything ending at or before it)
gtid:<set>[@<file>:<pos>]                 MySQL: executed GTID set; file and pos serve the same server only
mariadb:<d-s-n,…>[@<file>:<pos>]          MariaDB: last transaction of each domain
file:<server uuid>@<file>:<pos>           a server without GTIDs
"""

from __future__ import annotations

from dataclasses import dataclass

from tailrace_schemas.gtid import GtidSet, MariaGtids


def format_lsn(lsn: int) -> str:
    """A 64-bit LSN as Postgres writes it: `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


@dataclass(frozen=True, slots=True)
class LsnPosition:
    """Postgres. Same timeline and system identifier are the caller's to check (rule A3)."""

    lsn: int

    def contains(self, other: Position) -> bool:
        return isinstance(other, LsnPosition) and other.lsn <= self.lsn

    def elsewhere(self) -> LsnPosition:
        """What of it holds on another server with the same history."""
        return self

    def __str__(self) -> str:
        return f"lsn:{format_lsn(self.lsn)}"


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Binary log file and byte position. Files compare by their numeric suffix (999999 → 1000000)."""

    file: str
    pos: int

    @property
    def number(self) -> int:
        return int(self.file.rpartition(".")[2])

    def at_or_before(self, other: FilePlace) -> bool:
        return (self.number, self.pos) <= (other.number, other.pos)

    def __str__(self) -> str:
        return f"{self.file}:{self.pos}"

    @staticmethod
    def parse(text: str) -> FilePlace:
        """
        Raises:
            ValueError: not `file:pos`.
        """
        file, _, pos = text.rpartition(":")
        if not file.rpartition(".")[2].isdigit() or not pos.isdigit():
            raise ValueError(f"not a place in a binary log: {text}")
        return FilePlace(file, int(pos))


def _tail(place: FilePlace | None, again: object) -> str:
    return (f"@{place}" if place else "") + (f"!{again}" if again is not None else "")


@dataclass(frozen=True, slots=True)
class GtidPosition:
    """`undecided`: GTIDs of XA prepares in `gtids` that must be read again."""

    gtids: GtidSet
    place: FilePlace | None = None
    undecided: GtidSet | None = None

    def contains(self, other: Position) -> bool:
        return isinstance(other, GtidPosition) and self.gtids.contains(other.gtids)

    def elsewhere(self) -> GtidPosition:
        """As of `LsnPosition`."""
        return GtidPosition(self.gtids, None, self.undecided)

    def __str__(self) -> str:
        return f"gtid:{self.gtids}{_tail(self.place, self.undecided)}"


@dataclass(frozen=True, slots=True)
class MariaPosition:
    """`again`: where reading must begin, before the oldest undecided XA prepare."""

    gtids: MariaGtids
    place: FilePlace | None = None
    again: MariaGtids | None = None

    def contains(self, other: Position) -> bool:
        return isinstance(other, MariaPosition) and self.gtids.contains(other.gtids)

    def elsewhere(self) -> MariaPosition:
        """As of `LsnPosition`."""
        return MariaPosition(self.gtids, None, self.again)

    def __str__(self) -> str:
        return f"mariadb:{self.gtids}{_tail(self.place, self.again)}"


@dataclass(frozen=True, slots=True)
class FilePosition:
    """`again`: as in MariaPosition."""

    server: str
    place: FilePlace
    again: FilePlace | None = None

    def contains(self, other: Position) -> bool:
        return isinstance(other, FilePosition) and other.server == self.server and other.place.at_or_before(self.place)

    def elsewhere(self) -> FilePosition:
        """It holds on its own server alone, and says so."""
        return self

    def __str__(self) -> str:
        return f"file:{self.server}{_tail(self.place, self.again)}"


Position = LsnPosition | GtidPosition | MariaPosition | FilePosition


def parse_position(text: str) -> Position:
    """
    Raises:
        ValueError: not the text form of a position.
    """
    kind, _, rest = text.partition(":")
    rest, undecided, again = rest.partition("!")
    body, _, place_text = rest.partition("@")
    place = FilePlace.parse(place_text) if place_text else None
    match kind:
        case "lsn":
            return LsnPosition(parse_lsn(body))
        case "gtid":
            return GtidPosition(GtidSet.parse(body), place, GtidSet.parse(again) if undecided else None)
        case "mariadb":
            return MariaPosition(MariaGtids.parse(body), place, MariaGtids.parse(again) if undecided else None)
        case "file" if place is not None:
            return FilePosition(body, place, FilePlace.parse(again) if undecided else None)
        case _:
            raise ValueError(f"not a position: {text}")
