"""GTID sets of MySQL (tags of 8.3 included) and MariaDB, compared only by containment (rule A1).

Formats: MySQL manual, "GTID Format and Storage"; MariaDB documentation, "Global Transaction ID".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GtidSet:
    """MySQL. `intervals`: source id (`uuid` or `uuid:tag`, lower case) → sorted, disjoint, inclusive (first, last)."""

    intervals: dict[str, tuple[tuple[int, int], ...]]

    @staticmethod
    def parse(text: str) -> GtidSet:
        """
        Raises:
            ValueError: not a GTID set.
        """
        out: dict[str, list[tuple[int, int]]] = {}
        for part in text.replace("\n", "").replace(" ", "").split(","):
            if not part:
                continue
            uuid, *rest = part.split(":")
            source = uuid.lower()
            if len(uuid) != 36 or not rest:
                raise ValueError(f"not a GTID set: {text}")
            for piece in rest:
                # A tag begins with a letter or an underscore, and holds for the intervals after it.
                if piece and not piece[0].isdigit():
                    source = f"{uuid}:{piece}".lower()
                    continue
                first, dash, last = piece.partition("-")
                span = (int(first), int(last if dash else first))
                if not 0 < span[0] <= span[1]:
                    raise ValueError(f"not a GTID set: {text}")
                out.setdefault(source, []).append(span)
        return GtidSet({source: _joined(spans) for source, spans in out.items()})

    def contains(self, other: GtidSet) -> bool:
        return all(
            any(first >= a and last <= b for a, b in self.intervals.get(source, ()))
            for source, spans in other.intervals.items()
            for first, last in spans
        )

    def has(self, source: str, number: int) -> bool:
        return any(first <= number <= last for first, last in self.intervals.get(source, ()))

    def plus(self, source: str, number: int) -> GtidSet:
        """With one transaction more. The usual next number only widens the last interval."""
        spans = self.intervals.get(source, ())
        if spans and spans[-1][1] + 1 == number:
            grown = (*spans[:-1], (spans[-1][0], number))
        else:
            grown = _joined([*spans, (number, number)])
        return GtidSet({**self.intervals, source: grown})

    def union(self, other: GtidSet) -> GtidSet:
        out = {source: list(spans) for source, spans in self.intervals.items()}
        for source, spans in other.intervals.items():
            out.setdefault(source, []).extend(spans)
        return GtidSet({source: _joined(spans) for source, spans in out.items()})

    def minus(self, other: GtidSet) -> GtidSet:
        """Transactions of this set that `other` lacks; what a fail-over refusal lists."""
        out: dict[str, tuple[tuple[int, int], ...]] = {}
        for source, spans in self.intervals.items():
            left = list(spans)
            for a, b in other.intervals.get(source, ()):
                left = [
                    piece
                    for first, last in left
                    for piece in ((first, min(last, a - 1)), (max(first, b + 1), last))
                    if piece[0] <= piece[1]
                ]
            if left:
                out[source] = tuple(left)
        return GtidSet(out)

    def __str__(self) -> str:
        def spans(source: str) -> str:
            return ":".join(f"{a}-{b}" if a != b else str(a) for a, b in self.intervals[source])

        return ",".join(f"{source}:{spans(source)}" for source in sorted(self.intervals))


def _joined(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    out: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class MariaGtids:
    """MariaDB. `domains`: domain → (server id, sequence): the last transaction of each domain."""

    domains: dict[int, tuple[int, int]]

    @staticmethod
    def parse(text: str) -> MariaGtids:
        """
        Raises:
            ValueError: not a list of domain-server-sequence.
        """
        out: dict[int, tuple[int, int]] = {}
        for part in text.replace(" ", "").split(","):
            if part:
                domain, server, sequence = (int(number) for number in part.split("-"))
                if domain not in out or out[domain][1] < sequence:
                    out[domain] = (server, sequence)
        return MariaGtids(out)

    def contains(self, other: MariaGtids) -> bool:
        return all(
            domain in self.domains and sequence <= self.domains[domain][1]
            for domain, (_, sequence) in other.domains.items()
        )

    def has(self, domain: int, sequence: int) -> bool:
        return domain in self.domains and sequence <= self.domains[domain][1]

    def plus(self, domain: int, server: int, sequence: int) -> MariaGtids:
        return MariaGtids({**self.domains, domain: (server, sequence)})

    def __str__(self) -> str:
        return ",".join(f"{d}-{s}-{n}" for d, (s, n) in sorted(self.domains.items()))
