"""The hard cases in one line each: failures that cost users of systems of this kind their data, and what must come of
them here. Ids are never used twice. A case is proved by the tests that carry its mark; a case that none carries says here why.

Verdicts: `=` the target equals the source; `STOP(CODE)` the table or the job halts with that error, nothing skipped, and
after the fix it goes on to `=`; `DLQ` the one event is set aside and the rest goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

POSTGRES = ("POSTGRES14", "POSTGRES15", "POSTGRES16", "POSTGRES17", "POSTGRES18")
MYSQL = ("MYSQL57", "MYSQL80", "MYSQL9")
MARIADB = ("MARIADB1011", "MARIADB118")
VERSIONS = (*MYSQL, *MARIADB, *POSTGRES)
_GROUPS = {"P": POSTGRES, "M": MYSQL, "A": MARIADB}

NO_TARGETS = ("MYSQL57",)
NO_TEST = "no test yet"
_WAITS = "open until validate and cut-over exist"


@dataclass(frozen=True, slots=True)
class Case:
    """`on`: the engines it applies to, P(ostgres), M(ySQL), A (MariaDB), or single versions; those of the source, or with
    `at_target` of the target. `open`: why no test carries it, or what fails; empty when it is proved."""

    id: str
    what: str
    verdict: str
    on: str
    open: str = ""
    at_target: bool = False

    @property
    def versions(self) -> tuple[str, ...]:
        wanted = {version for word in self.on.split() for version in _GROUPS.get(word, (word,))}
        return tuple(v for v in VERSIONS if v in wanted and not (self.at_target and v in NO_TARGETS))


SECTIONS = {
    "A": "Types and encodings",
    "B": "Keys",
    "C": "Transactions",
    "D": "Schema changes, in the load and in the stream",
    "E": "From copy to stream",
    "G": "Lost history",
    "H": "Fail-over",
    "I": "Clocks and zones",
    "K": "Wrong input, wrong set-up",
}

CASES = (
    Case("A1", "unsigned 64-bit keys on both sides of 2^63: loaded, written in the load, streamed", "=", "M A"),
    Case("A2", "zero and impossible dates", "= or null or STOP(ZERO_DATE)", "M A"),
    Case("A3", "server and session in other time zones: a timestamp is one instant in load and stream", "=", "M A", open="the servers of the tests live in UTC themselves"),
    Case("A4", "wall-clock times in a gap of the worker's zone, and before 1970", "=", "M A"),
    Case("A5", "ends of TIME, YEAR, BIT, SET and DECIMAL", "=", "M A"),
    Case("A6", "enum with index 0 and NULL; its list changed while older events are unread", "= or STOP(SCHEMA_UNKNOWN)", "M A"),
    Case("A7", "partial JSON updates set by a session", "= or STOP(PARTIAL_JSON)", "MYSQL80 MYSQL9"),
    Case("A8", "text of many character sets and bytes, with full and with minimal table metadata", "=", "M A"),
    Case("A9", "vector columns", "= or STOP(TYPE)", "MYSQL9 MARIADB118"),
    Case("A10", "uuid, inet6 and binary(n) that end in zero bytes", "=", "M A"),
    Case("A11", "geometry with SRID; generated and invisible columns", "=", "M A"),
    Case("A12", "NaN, infinity, minus zero, numbers of 131,072 digits", "=", "P"),
    Case("A13", "infinite dates and times, 4713 BC, year 294276", "=", "P"),
    Case("A14", "interval, timetz, money, varbit, xml, tsvector, domain, composite, ranges, multiranges …", "=", "P", open="hstore and citext are not installed in the test servers"),
    Case("A15", "arrays: NULL elements, several dimensions, other lower bounds, empty", "=", "P"),
    Case("A16", "an unchanged out-of-line value is kept at the target", "=", "P"),
    Case("A17", "the same with full replica identity: it comes from the old row", "=", "P"),
    Case("A18", "insert of a big value and partial update in one batch, target empty", "=", "P"),
    Case("A19", "a key stored out of line, another column updated", "= or STOP(UNCHANGED_KEY)", "P"),
    Case("A20", "a zero byte in text; lone surrogate in JSON; databases in other encodings", "= or STOP(ENCODING) or DLQ", "P M A"),
    Case("A21", "values of tens of megabytes; a row above the broker's limit", "= or STOP(TOO_LARGE)", "P M A", open="a row above the broker's limit: Kafka only"),
    Case("A22", "empty text, NULL, and a column with a default set to NULL", "=", "P M A"),
    Case("B1", "a changed primary key: the old row is gone, the new one there, in one transaction", "=", "P M A"),
    Case("B2", "two unique values change places in one transaction", "=", "P M A"),
    Case("B3", "an upsert that meets another row's unique value never overwrites that row", "= or STOP(ROW_REJECTED)", "P M A", at_target=True),
    Case("B4", "insert, delete, insert of one key in one batch; update, delete, update", "=", "P M A"),
    Case("B5", "a table without key that would make the application's updates fail is refused", "STOP(REPLICA_IDENTITY)", "P"),
    Case("B6", "no key, two equal rows, one deleted: exactly one goes", "=", "P M A"),
    Case("B7", "a composite key in another order than the columns; a key on the beginning of a text", "=", "P M A"),
    Case("B8", "a unique index over a nullable column is no identity", "=", "P M A"),
    Case("B9", "chunks of a key under a case- and accent-blind collation: no gap, no overlap", "=", "M A"),
    Case("B10", "key 'a' becomes 'A' under such a collation, target Postgres", "=", "M A"),
    Case("B11", "keys of uuid, binary, decimal, double, timestamp, enum …, in chunks", "=", "P M A"),
    Case("B12", "parent and child in one transaction in two topics, the parent's late", "=", "P M A"),
    Case("B13", "a table that references itself; deferrable references; cascades at the target too", "=", "P M A"),
    Case("B14", "the primary key moved to another column in mid-stream", "=", "P M A"),
    Case("B15", "a parent deleted whose children the source's log leaves out", "=", "P M A"),
    Case("C1", "a transaction rolled back", "=", "P M A"),
    Case("C2", "rolled back to a savepoint", "=", "P M A"),
    Case("C3", "five million rows in one transaction, in bounded memory", "=", "P M A"),
    Case("C4", "big transactions streamed before their commit, parts of them aborted", "=", "P"),
    Case("C5", "PREPARE TRANSACTION, capture killed, COMMIT or ROLLBACK PREPARED", "=", "P"),
    Case("C6", "XA: prepared, server restarted, committed by another session", "=", "M A"),
    Case("C7", "a thousand rows with one position, capture killed among them", "=", "P M A"),
    Case("C8", "killed in the middle of a transaction of several row events", "=", "P M A"),
    Case("C9", "a binary log position beyond 4 GiB", "=", "M A"),
    Case("C10", "compressed transactions and rows", "=", "MYSQL80 MYSQL9 A"),
    Case("C11", "tagged GTIDs", "=", "MYSQL9"),
    Case("C12", "rotation of the binary log again and again", "=", "M A", open="one transaction across a rotation cannot be made by hand; rotations between transactions are tested"),
    Case("C13", "tables with and without transactions in one statement", "=", "M A"),
    Case("C14", "deadlock, serialization failure, lock timeout in mid-apply: the batch again, whole", "=", "P M A", at_target=True),
    Case("C15", "readers of the target see source transactions whole", "=", "P M A", at_target=True),
    Case("D1", "a column added, inside a transaction too: values under the right names", "=", "P M A"),
    Case("D2", "a column added with a default: old rows have it", "=", "P M A"),
    Case("D3", "a column dropped and added with another type while capture is down", "=", "P M A"),
    Case("D4", "columns renamed, moved, dropped in the middle", "=", "P M A"),
    Case("D5", "types widened, narrowed, changed with a rewrite", "= or STOP(DDL) or STOP(SCHEMA_UNKNOWN)", "P M A"),
    Case("D6", "online schema change by a ghost table, twice in a row, under load", "=", "M A"),
    Case("D7", "truncate: cascaded, of several tables, with identities restarted", "=", "P M A"),
    Case("D8", "a table dropped, and made again with other columns, while its events are unread", "=", "P M A"),
    Case("D9", "tables exchanged by rename without a row event", "= or STOP(RELATION_REPLACED)", "P"),
    Case("D10", "a partition attached with rows, detached, truncated", "=", "P", open="by policy rows of a detached partition stay at the target, and the log says so"),
    Case("D11", "a row moves between partitions; partitions of different replica identity", "=", "P"),
    Case("D12", "partitions come under their root's name, new ones too", "=", "P"),
    Case("D13", "ALTER TABLE while the table is loaded", "=", "P M A"),
    Case("D14", "instant column changes, invisible column, index renamed, character set converted", "=", "MYSQL80 MYSQL9 A"),
    Case("D15", "names with quotes, blanks, emoji, reserved words; DDL with comments", "=", "P M A"),
    Case("D16", "schema changes rolled back", "=", "P"),
    Case("D17", "a new table that the selection matches, also by CREATE … AS SELECT", "=", "P M A"),
    Case("D18", "sink (version of the target) or capture killed between a schema change and the first row after it", "=", "P M A"),
    Case("D19", "unlogged and temporary tables; one set logged later", "=", "P"),
    Case("E1", "rows inserted, updated, deleted, moved between chunks while the copy runs", "=", "P M A", open="at hundreds of changes a second"),
    Case("E2", "a transaction opened before the slot, committed in mid-copy: its rows once", "=", "P M A"),
    Case("E3", "writes between reading the position and opening the read view", "=", "M A"),
    Case("E4", "no snapshot is joined to the stream by a position read beside it", "=", "P", open="by design: only visibility joins snapshot and stream; no test of its own yet"),
    Case("E5", "copy from a replica that lags", "= or STOP(STANDBY) or STOP(REPLICA_UPDATES)", "P M A"),
    Case("E6", "killed after each chunk, and between the last chunk and the stream", "=", "P M A"),
    Case("E7", "a loaded row never overwrites a newer change", "=", "P M A"),
    Case("E8", "the copy outlives the source's log", "STOP(LOG_LOST) or STOP(SLOT_LOST)", "P M A"),
    Case("E9", "an idle connection closed under a long copy", "=", "P M A"),
    Case("E10", "tables of no row, of one row, of one value in all rows", "=", "P M A", open="a million rows of one value is not tested"),
    Case("E11", "one table loaded again, or added, while others stream", "=", "P M A", open="the others' latency is not measured"),
    Case("E12", "an event at the border of copy and stream comes once", "=", "P M A"),
    Case("E13", "a commit streamed while it waits for a standby: older snapshots are refused", "=", "P M"),
    Case("E14", "a transaction that wrote before its table joined the publication", "=", "P"),
    Case("E15", "capture restarts while an acknowledged commit still waits for its standby", "=", "P"),
    Case("E16", "a table rewritten while a chunk is read under an older snapshot", "=", "P"),
    Case("E17", "a table's chunks start again while deletes stream: no ghost rows", "=", "P M A"),
    Case("E18", "a key change of a row with an unchanged out-of-line value", "=", "P"),
    Case("E19", "chunks read from a physical standby", "= or STOP(STANDBY)", "P"),
    Case("G1", "binary logs purged past the position", "STOP(LOG_LOST)", "M A"),
    Case("G2", "slot dropped and made again by hand", "STOP(SLOT_RECREATED)", "P"),
    Case("G3", "slot invalidated by the server, at the start and in mid-stream", "STOP(SLOT_LOST)", "P"),
    Case("G4", "captured tables idle while others are written: the position goes on", "=", "P M A"),
    Case("G5", "the broker removed unread records; a topic was made again", "STOP(OFFSET_LOST)", "P M A", open="Kafka only; an embedded log has one test of a hole"),
    Case("G6", "the source restored to an earlier state, or its history reset", "STOP(SOURCE_BEHIND)", "P M A"),
    Case("G7", "deletes lost in a gap are found by comparison", "=", "P M A", open=_WAITS),
    Case("H1", "a replica promoted, GTIDs go on", "=", "M A"),
    Case("H2", "a promoted replica lacks what was sent, or has more", "STOP(SOURCE_BEHIND) or STOP(GTID_STRICT)", "M A"),
    Case("H3", "a failover slot on the promoted standby", "=", "POSTGRES17 POSTGRES18"),
    Case("H4", "a failover slot that is not yet safe is reported beforehand", "STOP(SLOT_NOT_SAFE)", "POSTGRES17 POSTGRES18"),
    Case("H5", "capture ahead of the promoted standby: rows that it never had are found", "STOP(SOURCE_BEHIND)", "P", open=_WAITS),
    Case("H6", "a slot of the same name on the demoted primary", "STOP(SLOT_SYNC)", "POSTGRES17 POSTGRES18"),
    Case("H7", "servers without GTID, several MariaDB domains, a changed server identity", "= or STOP(WRONG_SOURCE)", "M A"),
    Case("I1", "clocks that jump: order is by position", "=", "P M A"),
    Case("I2", "the repeated hour, the last TIMESTAMP, a session that sets its own time", "=", "P M A"),
    Case("I3", "a target in another zone and date style", "=", "P"),
    Case("K1", "log settings that cannot work are all named with the statement that cures them", "STOP(PREFLIGHT)", "P M A"),
    Case("K2", "one session writes statements, or partial rows, later", "STOP(STATEMENT_DML) or STOP(PARTIAL_IMAGE)", "M A"),
    Case("K3", "missing rights, row security, no free slot: each named with its GRANT", "STOP(PREFLIGHT)", "P M A"),
    Case("K4", "a wrong or expired password, at the start and in mid-run", "STOP(REFUSED)", "P M A"),
    Case("K5", "the publication lost a table, has a column list or a row filter", "STOP(PUBLICATION_CHANGED)", "P"),
    Case("K6", "wrong settings: all at once, with line numbers", "STOP(CONFIG)", "P M A"),
    Case("K7", "foreign or damaged records in the log", "= or STOP(LOG_DAMAGED) or DLQ", "P M A"),
    Case("K8", "the registry refuses a schema: both are named", "STOP(SCHEMA)", "P M A"),
    Case("K9", "the target lacks a column, refuses a value, computes a column", "= or STOP(CODE) or DLQ", "P M A", at_target=True),
    Case("K10", "names too long for the target, or equal there, are refused before the load", "STOP(PREFLIGHT)", "P M A", at_target=True),
    Case("K11", "sequences at the target after the cut-over", "=", "P M A", open=_WAITS),
    Case("K12", "triggers and foreign keys of the target do not fire for applied changes, or are listed", "=", "P M A"),
    Case("K13", "two-way sync of one table does not loop", "=", "P M A", open=_WAITS),
)  # fmt: skip
BY_ID = {case.id: case for case in CASES}
