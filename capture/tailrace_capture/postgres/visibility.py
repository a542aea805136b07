"""Postgres snapshots: which transactions of the stream a read view shows (rule B5).

Format: PostgreSQL manual, "pg_snapshot Components": xmin:xmax:xip_list, 64-bit top-level transaction ids.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailrace_schemas.position import LsnPosition, parse_lsn


def widen(xid: int, near: int) -> int:
    """The 64-bit id of a 32-bit one of the stream that lies within 2^31 of `near`."""
    wide = (near & ~0xFFFFFFFF) | xid
    if wide - near > 2**31:
        return wide - 2**32
    if near - wide > 2**31:
        return wide + 2**32
    return wide


@dataclass(frozen=True, slots=True)
class PgSnapshot:
    """`past`: the WAL's end read just after the snapshot was taken."""

    xmin: int
    xmax: int
    in_progress: frozenset[int]
    past: LsnPosition

    @staticmethod
    def parse(text: str, past: LsnPosition) -> PgSnapshot:
        xmin, xmax, running = text.split(":")
        return PgSnapshot(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid), past)

    def sees(self, ref: object) -> bool:
        """`ref`: the 32-bit top-level xid of a committed transaction."""
        assert isinstance(ref, int)
        xid = widen(ref, self.xmax)
        return xid < self.xmin or (xid < self.xmax and xid not in self.in_progress)

    def to_text(self) -> str:
        running = ",".join(str(xid) for xid in sorted(self.in_progress))
        return f"{self.xmin}:{self.xmax}:{running}@{self.past}"

    @staticmethod
    def from_text(text: str) -> PgSnapshot:
        body, _, past = text.partition("@lsn:")
        return PgSnapshot.parse(body, LsnPosition(parse_lsn(past)))
