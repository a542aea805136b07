"""Every error code: what it means, what is safe, what fixes it, what to do then. `docs/errors.md` is made of it.

What is safe, and what follows the fix, depends on what happens (`Kind`), not on the code; `then` says where a code
differs. The hint of a raised error holds the same act with its true names. Adding a code: raise it, enter it here, then
`python -m tailrace.errors_file`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What happens; the order is that of the document."""

    START = "The start is refused"
    LOGIN = "A login is refused"
    CHECK = "Findings of check"
    TABLE = "A table stops"
    STOP = "The pipeline or a sink stops"
    LOST = "The position is lost"
    ROW = "An event is refused"
    WAIT = "It waits and tries again"


@dataclass(frozen=True, slots=True)
class KindText:
    """`happens` and `safe` are of the kind; `then` holds for every code of it that says nothing else."""

    happens: str
    safe: str
    then: str


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """`kinds`: all that this code comes as; the first is where the document has it. `fix`: statements and acts, a
    line for each engine or cause where they differ; `<…>` is to be filled in."""

    code: str
    kinds: tuple[Kind, ...]
    meaning: str
    fix: str
    then: str = ""


NEW_LOAD = "[a new load](#a-new-load)."
_RELOADED = "Start again: the table is emptied at the targets and loaded anew, the others go on."

KINDS: dict[Kind, KindText] = {
    Kind.START: KindText(
        "The command ends with 2, or with 3 where preflight found it.",
        "Nothing was written. What an earlier run left is as it was.",
        "Give the command again.",
    ),
    Kind.LOGIN: KindText(
        "A server answers and does not let us in. At the start the command ends with 2, or with 3 as a finding; a "
        "process "
        "that was let in before says so and tries again, up to every 15 s.",
        "Position and data are kept.",
        "Start again; a process that still runs goes on by itself once it is let in.",
    ),
    Kind.CHECK: KindText(
        "`tailrace check`, and `run` at its first start, print all of them at once. With an error nothing starts "
        "(exit code 3); a warning stops nothing.",
        "Nothing was written to either database.",
        "`tailrace check` again, or `tailrace run`.",
    ),
    Kind.TABLE: KindText(
        "Capture writes no further change of this table; the other tables go on. `tailrace status --json` has its "
        "code, message, remedy, column and position.",
        "What was written of the table up to that position is applied and stays.",
        _RELOADED,
    ),
    Kind.STOP: KindText(
        "The process ends with 1. Where it is the capture the run ends; where it is one of several sinks the others "
        "go on.",
        "The position in the log and the progress in the target are kept, and nothing after them is lost: the source "
        "keeps it (its slot or its binary logs grow meanwhile) and so does the log.",
        "Start again: it goes on at its position.",
    ),
    Kind.LOST: KindText(
        "What has to be read next no longer exists. The process ends with 5.",
        "Nothing is applied beyond the gap: the target stays as it was.",
        NEW_LOAD,
    ),
    Kind.ROW: KindText(
        "With `on_row_error: stop` (the default) the sink ends with 1. With `dead_letter` the event is set aside, "
        "where it "
        "can be, and the sink goes on.",
        "Nothing of the batch is applied, or all of it but the events set aside; those stand in the dead letters "
        "whole.",
        "Start again: the sink tries the same event.",
    ),
    Kind.WAIT: KindText(
        "The process says why and does the same work again, after 0.2 s, then twice as long, up to 15 s. Only where "
        "nothing was reached since the start it ends with 1 after `--connect-timeout`.",
        "Nothing is lost or done twice: what is stored decides where it goes on.",
        "Nothing: it goes on by itself.",
    ),
}


_START, _LOGIN, _CHECK, _TABLE = Kind.START, Kind.LOGIN, Kind.CHECK, Kind.TABLE
_STOP, _LOST, _ROW, _WAIT = Kind.STOP, Kind.LOST, Kind.ROW, Kind.WAIT

_STARTS = (
    ErrorCode(
        "CONFIG",
        (_START,),
        "A flag, a URI, the pipeline file or the state folder cannot be used; the message says which word of it.",
        "Correct what the message names, as its hint says.",
    ),
    ErrorCode(
        "DMS_NOT_SUPPORTED",
        (_START,),
        "The file is a task of AWS DMS, which this version does not run.",
        "`tailrace run <source> <target> --tables <pattern> --emit-config > pipeline.yaml`",
        "`tailrace run pipeline.yaml`.",
    ),
    ErrorCode(
        "DRIVER_MISSING",
        (_START,),
        "The Python package that speaks to this database is not installed.",
        "Postgres: `pip install 'tailrace[postgres]'`\nMySQL, MariaDB: `pip install 'tailrace[mysql]'`",
    ),
    ErrorCode(
        "KAFKA",
        (_START,),
        "The brokers or the client library refuse a setting.",
        "Correct the setting that the detail names: in the log's URI, or under `kafka:` or `topics:`.",
    ),
    ErrorCode(
        "KAFKA_ACL",
        (_START,),
        "The Kafka user lacks a right.",
        "Grant what the hint lists, with `kafka-acls.sh --add --allow-principal User:<user> …`.",
    ),
    ErrorCode(
        "KAFKA_AUTH",
        (_START,),
        "The brokers refuse the login.",
        "Correct user, password, `security_protocol` and `sasl_mechanism` in the log's URI.",
    ),
    ErrorCode(
        "KAFKA_TLS",
        (_START,),
        "No TLS connection to the brokers.",
        "`kafka: {ssl.ca.location: <file>}`; with client certificates also `ssl.certificate.location`, "
        "`ssl.key.location`.",
    ),
    ErrorCode(
        "LOG_FOREIGN",
        (_START,),
        "The file that is to be the log is something else.",
        "`--log sqlite:///<another path>`, or move that file away.",
    ),
    ErrorCode(
        "LOG_PATH",
        (_START,),
        "The file of the log cannot be made, opened or written.",
        "`--log sqlite:///<path on a local disk>`, or let this user read and write the file and its folder.",
    ),
    ErrorCode(
        "MAP_NEEDED",
        (_START,),
        "The target names one database, but the tables may come from several namespaces.",
        "`--map <namespace>=<database>`, or `--tables '<namespace>.*'`",
    ),
    ErrorCode(
        "PASSWORD_MISSING",
        (_START,),
        "`tailrace drop` must log in, and a password it needs is not there; nothing was removed.",
        "`TAILRACE_SOURCE_PASSWORD=<…> TAILRACE_<SINK>_PASSWORD=<…> tailrace drop --name <name>`",
        "Nothing: the pipeline is removed.",
    ),
    ErrorCode(
        "PREFLIGHT",
        (_START,),
        "Preflight has findings of level error; they are printed before this.",
        "The statement printed with each finding.",
    ),
    ErrorCode(
        "REGISTRY",
        (_START,),
        "What answers at `registry=` is not a schema registry.",
        "`registry=<address before /subjects>`; with Apicurio it ends in `/apis/ccompat/v7`.",
    ),
    ErrorCode(
        "REGISTRY_AUTH",
        (_START,),
        "The registry refuses the login or the request.",
        "`registry_user=<…>&registry_password=<…>` in the log's URI, or give that user the right at the registry.",
    ),
    ErrorCode(
        "REGISTRY_TLS",
        (_START,),
        "The registry's certificate cannot be trusted.",
        "`registry_ca=<file of its CA>` in the log's URI, or the host as its certificate names it.",
    ),
    ErrorCode(
        "USAGE",
        (_START,),
        "The command line has an unknown command or flag, or lacks one.",
        "`tailrace --help`, `tailrace <command> --help`",
    ),
)

_LOGINS = (
    ErrorCode(
        "NO_DATABASE",
        (_LOGIN,),
        "The database of the URI does not exist.",
        "`CREATE DATABASE <database>`, or name another in the URI.",
    ),
    ErrorCode(
        "PASSWORD",
        (_LOGIN,),
        "User or password is wrong, or the account may not log in this way.",
        "Correct user and password of the URI.\n"
        "Postgres: `ALTER ROLE <role> LOGIN PASSWORD '<password>'`\n"
        "MySQL, MariaDB: `ALTER USER <user> IDENTIFIED BY '<password>'`; a locked account: `ALTER USER <user> "
        "ACCOUNT UNLOCK`",
    ),
    ErrorCode(
        "PG_HBA",
        (_LOGIN,),
        "The server's pg_hba.conf has no line that lets this host, user and database in.",
        "Add the line `hostssl <database> <user> <address> scram-sha-256` to pg_hba.conf, then `SELECT "
        "pg_reload_conf()`.",
    ),
    ErrorCode(
        "TLS",
        (_LOGIN, _START),
        "No TLS connection that both sides accept, or a file of it cannot be read.",
        "Correct `sslmode`, `sslrootcert`, `sslcert` and `sslkey` of the URI.\n"
        "The server, or the user's plugin, requires TLS: `sslmode=verify-full`",
    ),
)

_CHECKS = (
    ErrorCode(
        "BINLOG_FORMAT",
        (_CHECK,),
        "The source does not write changes as rows.",
        "`SET GLOBAL binlog_format = ROW`; sessions that are open keep the old value.",
    ),
    ErrorCode(
        "DDL_TRIGGER",
        (_CHECK,),
        "The role may not make the event trigger that tells of DDL in order at a Postgres source; without it column "
        "changes are followed by looks at the catalogue, and where these leave a doubt the table is loaded again.",
        "As superuser in the source database: `python -m tailrace_capture.postgres.ddl_trigger <slot> | psql -1 -f -`; "
        "or `ddl_trigger: off`",
    ),
    ErrorCode(
        "ENCODING",
        (_CHECK, _TABLE, _STOP),
        "The source database is not UTF8: text that its server cannot give as UTF-8 stops its table while that is "
        "loaded, and capture when it comes in a change.",
        "Nothing, where all its text can be converted; else correct the rows, or load into "
        "`CREATE DATABASE <name> ENCODING 'UTF8'` first; after a change with such text: `tailrace drop`, then "
        "`tailrace run`.",
    ),
    ErrorCode(
        "GENERATED",
        (_CHECK,),
        "Generated columns are not captured.",
        "At the target: `ALTER TABLE <table> ADD <column> <type> GENERATED ALWAYS AS (<expression>) STORED`",
    ),
    ErrorCode(
        "GRANT",
        (_CHECK, _STOP, _LOGIN),
        "The MySQL or MariaDB user lacks a right at the source, or may not use the database or log in from this host.",
        "`tailrace check` prints each missing `GRANT <right> ON *.* TO <user>`.\n"
        "The login itself: `CREATE USER '<user>'@'<host>' IDENTIFIED BY '<password>'`, or `GRANT <rights> ON "
        "<database>.* TO <user>`",
    ),
    ErrorCode(
        "GTID_MODE",
        (_CHECK, _STOP),
        "GTIDs are off, so that a fail-over needs a new load; or they were switched after the log was begun, "
        "or another server writes transactions without one.",
        "`SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE; SET GLOBAL "
        "gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON`, on every server that writes to this one",
        "Start again; where the log was written under the other mode, or holds on at a transaction without "
        "GTID: " + NEW_LOAD,
    ),
    ErrorCode(
        "GTID_STRICT",
        (_CHECK, _STOP),
        "MariaDB's sequence numbers need not ascend: refused with several domains, and after a fail-over.",
        "`SET GLOBAL gtid_strict_mode = ON`",
    ),
    ErrorCode(
        "KEY_COLLATION",
        (_CHECK, _STOP),
        "`consistency: key`: equal values of the key may have different bytes, and lie in different partitions.",
        "The statement of the hint gives the column an exact collation; or `consistency: transaction`.",
    ),
    ErrorCode(
        "KEY_FOREIGN_KEY",
        (_CHECK, _STOP),
        "`consistency: key`: a foreign key needs parents before children.",
        "At the target: `ALTER TABLE <table> DROP CONSTRAINT <name>` (MySQL: `DROP FOREIGN KEY <name>`); or "
        "`consistency: transaction`.",
    ),
    ErrorCode(
        "KEY_KEYLESS",
        (_CHECK, _STOP),
        "`consistency: key`: the table has no key, so its events are in order only together.",
        "At the source: `ALTER TABLE <table> ADD PRIMARY KEY (<columns>)`; or `consistency: transaction`.",
    ),
    ErrorCode(
        "KEY_UNIQUE",
        (_CHECK, _STOP),
        "`consistency: key`: values of another unique constraint may move between keys, whose order is not kept.",
        "At the target: drop that constraint or index, as the hint says; or `consistency: transaction`.",
    ),
    ErrorCode(
        "LOG_BIN",
        (_CHECK, _STOP),
        "The MySQL or MariaDB source writes no binary log.",
        "In its option file under `[mysqld]`: `log_bin = binlog` and `server_id = 1`; then restart the server.",
    ),
    ErrorCode(
        "MAX_PACKET",
        (_CHECK,),
        "The MySQL or MariaDB target rejects rows longer than its max_allowed_packet.",
        "`SET GLOBAL max_allowed_packet = 67108864`",
    ),
    ErrorCode(
        "NAMES_EQUAL",
        (_CHECK,),
        "Tables or columns that differ at the source would have one name at the target: namespaces mapped to one, or "
        "names that differ in case only, at a MySQL-family target.",
        "At the source: `ALTER TABLE <table> RENAME COLUMN <name> TO <other>` or `ALTER TABLE <table> RENAME TO "
        "<other>`; or map the namespace to another one; or leave the table out: `--tables '!<table>'`.",
    ),
    ErrorCode(
        "NAME_TOO_LONG",
        (_CHECK,),
        "A table's or column's name is longer than the target allows.",
        "At the source: `ALTER TABLE <table> RENAME COLUMN <name> TO <shorter>` or `ALTER TABLE <table> "
        "RENAME TO <shorter>`; or leave the table out: `--tables '!<table>'`.",
    ),
    ErrorCode(
        "NO_FREE_SENDER",
        (_CHECK,),
        "All WAL senders of the Postgres source are in use.",
        "`ALTER SYSTEM SET max_wal_senders = <more>`; then restart the server.",
    ),
    ErrorCode(
        "NO_FREE_SLOT",
        (_CHECK, _STOP),
        "All replication slots of the Postgres source are in use.",
        "`ALTER SYSTEM SET max_replication_slots = <more>`; then restart the server. Or drop one that nothing "
        "uses: `SELECT pg_drop_replication_slot('<slot>')`",
    ),
    ErrorCode(
        "NO_KEY",
        (_CHECK,),
        "The table has no primary key: it is loaded in one piece, and its changes are found by all columns.",
        "At the source: `ALTER TABLE <table> ADD PRIMARY KEY (<columns>)`",
    ),
    ErrorCode(
        "NO_TABLES",
        (_CHECK, _STOP),
        "No table matches the selection, or the user may see none.",
        "`--tables '<schema>.<table>'`, or `tables:` of the source.",
    ),
    ErrorCode(
        "PRIVILEGE",
        (_CHECK, _STOP, _LOGIN),
        "The role lacks a right: at a Postgres source to replicate, publish or read; at a target to write or create.",
        "Replication: `ALTER ROLE <role> REPLICATION`\n"
        "Publication: `GRANT CREATE ON DATABASE <database> TO <role>`, and `ALTER TABLE <table> OWNER TO "
        "<role>`; or as owner: `CREATE PUBLICATION <name> FOR TABLE <tables> WITH (publish_via_partition_root "
        "= true)`\n"
        "Reading: `GRANT USAGE ON SCHEMA <schema> TO <role>; GRANT SELECT ON <table> TO <role>`\n"
        "Login: `GRANT CONNECT ON DATABASE <database> TO <role>`\n"
        "Postgres target: `GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON <table> TO <role>; GRANT CREATE, "
        "USAGE ON SCHEMA <schema> TO <role>`\n"
        "MySQL, MariaDB target: `GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE TEMPORARY "
        "TABLES ON <database>.* TO <user>`",
    ),
    ErrorCode(
        "REPLICA_IDENTITY",
        (_CHECK,),
        "The table has no replica identity: once published, its UPDATEs and DELETEs would fail at the source.",
        "`ALTER TABLE <table> REPLICA IDENTITY FULL`",
    ),
    ErrorCode(
        "REPLICA_UPDATES",
        (_CHECK, _STOP),
        "If the source is a replica, what it receives is not in its binary log; where it is one, it is refused.",
        "Under `[mysqld]`: `log_replica_updates = ON` (MariaDB: `log_slave_updates = ON`); then restart the server.",
    ),
    ErrorCode(
        "ROW_IMAGE",
        (_CHECK,),
        "The source does not write whole rows.",
        "`SET GLOBAL binlog_row_image = FULL`; sessions that are open keep the old value.",
    ),
    ErrorCode(
        "ROW_METADATA",
        (_CHECK,),
        "A warning: the binary log does not name its columns, so they are taken from the catalogue. A table whose "
        "changes of columns cannot be followed with certainty will stop with `SCHEMA_UNKNOWN`.",
        "`SET GLOBAL binlog_row_metadata = FULL`; a server without that variable has to be upgraded (MySQL "
        "8.0, MariaDB 10.5).",
    ),
    ErrorCode(
        "ROW_SECURITY",
        (_CHECK,),
        "Row security hides rows of the table from the role.",
        "`ALTER ROLE <role> BYPASSRLS`",
    ),
    ErrorCode(
        "SERVER_ID",
        (_CHECK,),
        "The server_id under which we would read is the source's own or another reader's.",
        "`source: {server_id: <another>}` in pipeline.yaml; of this pipeline's own other capture: stop that one first.",
    ),
    ErrorCode(
        "SLOT_MAY_BE_LOST",
        (_CHECK,),
        "`max_slot_wal_keep_size` is set: a slot that falls behind by more is lost.",
        "`ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()`",
    ),
    ErrorCode(
        "SLOT_NOT_SAFE",
        (_CHECK,),
        "There is a standby, and if it were promoted now, changes could not go on from it: the slot is no failover "
        "slot, the standby has no complete copy of it, or it may be behind capture.",
        "What the finding names; for a standby's own view give its URL to `tailrace check`. PostgreSQL 17 or later.",
    ),
    ErrorCode(
        "SLOT_SYNC",
        (_CHECK,),
        "A standby that was the primary before has the slot as its own, which ends the copying of every slot to it.",
        "There: `SELECT pg_drop_replication_slot('<slot>')`",
    ),
    ErrorCode(
        "STANDBY",
        (_CHECK, _LOGIN),
        "The Postgres source is a standby: changes are captured from the primary alone.",
        "Point the source's URL at the primary. A capture that ran before waits for the promotion.",
    ),
    ErrorCode(
        "STORAGE_ENGINE",
        (_CHECK,),
        "The table's storage engine has no transactions: it is locked while a chunk of it is read.",
        "At the source: `ALTER TABLE <table> ENGINE = InnoDB`",
    ),
    ErrorCode(
        "SYNC_BINLOG",
        (_CHECK,),
        "A crash of the source's machine may take back what it has sent.",
        "`SET GLOBAL sync_binlog = 1`",
    ),
    ErrorCode(
        "TARGET_DURABILITY",
        (_CHECK,),
        "A crash of the target may take back what it has confirmed: rows are then missing.",
        "`SET GLOBAL innodb_flush_log_at_trx_commit = 1`",
    ),
    ErrorCode(
        "TARGET_ENCODING",
        (_CHECK,),
        "The Postgres target is not UTF8: characters it lacks are rejected.",
        "`CREATE DATABASE <name> ENCODING 'UTF8' TEMPLATE template0`, and name that in the target's URL.",
    ),
    ErrorCode(
        "TARGET_ENGINE",
        (_CHECK,),
        "A table at the MySQL or MariaDB target has no transactions.",
        "`ALTER TABLE <table> ENGINE = InnoDB`",
    ),
    ErrorCode(
        "TARGET_GRANT",
        (_CHECK,),
        "The role may not write a table of the Postgres target, or not create what is missing.",
        "`GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON <table> TO <role>`\n"
        "`GRANT CREATE, USAGE ON SCHEMA <schema> TO <role>`, or where it is missing: `GRANT CREATE ON "
        "DATABASE <database> TO <role>`",
    ),
    ErrorCode(
        "TARGET_KEY",
        (_CHECK,),
        "The target table has no unique index on the source's key: changes are applied slowly.",
        "Postgres: `ALTER TABLE <table> ADD PRIMARY KEY (<key>)`\n"
        "MySQL, MariaDB: `ALTER TABLE <table> ADD UNIQUE (<key>)`",
    ),
    ErrorCode(
        "TARGET_NOT_EMPTY",
        (_CHECK,),
        "A first load is about to go into a table that holds rows: those that the source does not have stay there, and "
        "all of them where the table has no key.",
        "`TRUNCATE TABLE <table>`, unless the rows are of another source.",
    ),
    ErrorCode(
        "TARGET_READ_ONLY",
        (_CHECK,),
        "The target may not be written.",
        "Postgres: point the target's URL at the primary.\nMySQL, MariaDB: `SET GLOBAL read_only = OFF`",
    ),
    ErrorCode(
        "TARGET_TRIGGER",
        (_CHECK,),
        "A trigger of the target table fires for applied changes; an error under `target_triggers: refuse`.",
        "Postgres: `ALTER TABLE <table> DISABLE TRIGGER <name>`\nMySQL, MariaDB: `DROP TRIGGER <schema>.<name>`",
    ),
    ErrorCode(
        "TRIGGERS_FIRE",
        (_CHECK,),
        "The role may not set session_replication_role: triggers and foreign keys fire for applied changes.",
        "Postgres 15 and later: `GRANT SET ON PARAMETER session_replication_role TO <role>`; before: a "
        "superuser as the role.",
    ),
    ErrorCode(
        "VERSION", (_CHECK,), "The source's version is not supported.", "Upgrade the Postgres source to 14 or later."
    ),
    ErrorCode(
        "WAL_LEVEL",
        (_CHECK,),
        "The Postgres source does not write what logical replication needs.",
        "`ALTER SYSTEM SET wal_level = 'logical'`; then restart the server.",
    ),
    ErrorCode(
        "WEAK_TLS",
        (_CHECK,),
        "The connection does not prove whom it talks to.",
        "`sslmode=verify-full`, with `sslrootcert=<file>` where the CA is your own.",
    ),
)

_TABLES = (
    ErrorCode(
        "CHARSET",
        (_TABLE,),
        "A column has a character set that cannot be decoded.",
        "At the source: `ALTER TABLE <table> MODIFY <column> <type> CHARACTER SET utf8mb4`; or `--tables '!<table>'`.",
    ),
    ErrorCode(
        "KEY_VALUE",
        (_TABLE,),
        "A key column of Postgres holds a value that Avro cannot carry: NaN, an infinity, an uneven array.",
        "At the source: `UPDATE <table> SET <column> = <another value> WHERE <column> = '<value>'`",
    ),
    ErrorCode(
        "PARTIAL_IMAGE",
        (_TABLE,),
        "A change does not carry all columns, because a session wrote it under another binlog_row_image.",
        "`SET GLOBAL binlog_row_image = FULL`, and let no session set another.",
    ),
    ErrorCode(
        "PUBLICATION_CHANGED",
        (_TABLE, _STOP),
        "Somebody has changed the publication: a table was taken out of it, or it filters or leaves out operations.",
        "A table was taken out: nothing; the next start adds it again.\n"
        "Operations: `ALTER PUBLICATION <name> SET (publish = 'insert, update, delete, truncate', "
        "publish_via_partition_root = true)`\n"
        "A row filter or column list: `ALTER PUBLICATION <name> DROP TABLE <table>`; the next start adds it "
        "again.",
    ),
    ErrorCode(
        "ROW_CORRUPT",
        (_TABLE,),
        "A row's bytes are not what its table map says; or, of Postgres, a value is not what its type says.",
        "MySQL, MariaDB: `mysqlbinlog --verify-binlog-checksum <file>`; report it if the file is whole. "
        "Postgres: report it.",
    ),
    ErrorCode(
        "SCHEMA_UNKNOWN",
        (_TABLE,),
        "The binary log does not name its columns (`ROW_METADATA`), and for a row there it is not certain what they "
        "were: the table was changed more than once while nothing read the log, outside the log "
        "(`sql_log_bin = 0`), or in a way that the catalogue does not show.",
        "`SET GLOBAL binlog_row_metadata = FULL`, where the server knows it.",
        _RELOADED,
    ),
    ErrorCode(
        "SNAPSHOT_TOO_LONG",
        (_TABLE, _STOP),
        "A snapshot of the load was open longer than `load.max_snapshot_seconds`: as a warning after `warn`; after "
        "`end` it was ended, and the table could not be read in smaller chunks. In mode full-load, which has one "
        "snapshot for all, the run stops.",
        "`load: {max_snapshot_seconds: {end: <seconds>}}`, higher or null; or load when less is going on.",
    ),
    ErrorCode(
        "STATEMENT_DML",
        (_TABLE, _STOP),
        "A change was written in statement format, so that its rows are not in the binary log. Where it may "
        "be of any table the whole capture stops.",
        "`SET GLOBAL binlog_format = ROW`, and let no session set another.",
        _RELOADED + " Where the whole capture stopped: " + NEW_LOAD,
    ),
    ErrorCode(
        "TABLE_DROPPED",
        (_TABLE,),
        "The table is gone at the source.",
        "`--tables '!<table>'`, or create it again.",
        "Start again: a table created again is loaded, one left out is no longer named.",
    ),
    ErrorCode(
        "TABLE_GONE",
        (_TABLE,),
        "At the start the table is not there, or no longer selected.",
        "Nothing, if that is meant; else `--tables '<table>'`, or create it again.",
    ),
    ErrorCode(
        "TYPE",
        (_TABLE, _STOP, _CHECK),
        "A column has a type that cannot be captured.",
        "`--tables '!<table>'`, or at the source: `ALTER TABLE <table> MODIFY <column> <another type>`",
    ),
    ErrorCode(
        "TYPE_GONE",
        (_TABLE,),
        "A row has a type that no longer exists at the Postgres source.",
        "Nothing has to be changed.",
    ),
    ErrorCode(
        "UNCHANGED_KEY",
        (_TABLE,),
        "A key column stored out of line was not sent with a change, so the row cannot be told.",
        "At the source: `ALTER TABLE <table> REPLICA IDENTITY FULL`",
    ),
    ErrorCode(
        "ZERO_DATE",
        (_TABLE,),
        "A key column holds a zero or partial date, which is no date elsewhere.",
        "At the source: `UPDATE <table> SET <column> = '<date>' WHERE <column> = '<zero date>'`",
    ),
)

_STOPS = (
    ErrorCode(
        "BINLOG_CORRUPT",
        (_STOP,),
        "The binary log holds bytes that are not of its format.",
        "At the source: `mysqlbinlog --verify-binlog-checksum <file>`. If the file is whole, report it.",
        "Start again, once; if it comes back: " + NEW_LOAD,
    ),
    ErrorCode(
        "BINLOG_LEFT",
        (_STOP,),
        "The binary log that is read next may soon be purged by the source: `source.min_binlog_left` is reached, as a "
        "warning or as `stop`.",
        "At the source: `SET GLOBAL binlog_expire_logs_seconds = <seconds>` (MariaDB: or `expire_logs_days`).\n"
        "Give capture what it lacks to catch up, or `load: {max_rows_per_second: <n>}` while it loads.",
    ),
    ErrorCode(
        "BINLOG_UNKNOWN",
        (_STOP,),
        "The binary log holds an event, type or flag that this version does not know.",
        "A version of Tailrace that knows it.",
        "Start that version; while there is none, keep what the message names out of the source, then " + NEW_LOAD,
    ),
    ErrorCode(
        "CASCADES",
        (_STOP,),
        "`cascades: refuse`: foreign keys of the source act on rows without a trace in its log.",
        "`cascades: emulate` of the sink; or at the source `ALTER TABLE <table> DROP FOREIGN KEY <name>` and "
        "make it again without ON DELETE and ON UPDATE actions.",
    ),
    ErrorCode(
        "CHECKSUM",
        (_STOP,),
        "An event of the binary log does not match its checksum.",
        "At the source: `mysqlbinlog --verify-binlog-checksum <file>`. If the file is whole, the network changed it.",
        "Start again; if the file is damaged: " + NEW_LOAD,
    ),
    ErrorCode(
        "CHILD_ENDED",
        (_STOP,),
        "A process of the run ended and left no error.",
        "Look at its last lines in the log, then start again.",
    ),
    ErrorCode(
        "CONSISTENCY",
        (_STOP,),
        "The consistency was changed too early: the target holds parts of source transactions (a sink was killed under "
        "`consistency: key`), or rows of a load that wait for unique values (under `transaction`).",
        "The consistency of before once more: `key` until it was stopped with SIGTERM, `transaction` until the load is "
        "done.",
        "Start with the other one.",
    ),
    ErrorCode(
        "DEAD_LETTERS",
        (_STOP,),
        "More events are set aside than `max_dead_letters` (10,000) or `max_dead_letter_share` of the sink allow, or "
        "more than 10,000 rows wait: that is not a row here and there.",
        "`tailrace dead-letter list` says why; change the target's columns as that says.\n"
        "`tailrace dead-letter replay --all`, and `tailrace dead-letter discard --all` for what is not wanted; or "
        "raise the limit.",
        "Start again: the batch that met the limit is applied then.",
    ),
    ErrorCode(
        "DEMO",
        (_STOP,),
        "The demo did not end as it should; the detail is the end of its log.",
        "`make demo` again; if it comes back, report it with the detail.",
        "Nothing.",
    ),
    ErrorCode(
        "DUMP_REFUSED",
        (_STOP,),
        "The source refuses to send its binary log.",
        "Correct what the detail names at the source.",
    ),
    ErrorCode(
        "FOREIGN_LOG",
        (_STOP,),
        "The target's progress belongs to a log that was deleted and made again.",
        "`DELETE FROM tailrace.progress WHERE pipeline = '<name>' AND sink = '<sink>'`, and empty the target's tables.",
        "Start again: everything is applied from the beginning of the log.",
    ),
    ErrorCode(
        "INCIDENT",
        (_STOP,),
        "The source says itself that its binary log has lost events.",
        "Nothing brings them back.",
        NEW_LOAD,
    ),
    ErrorCode(
        "INVARIANT",
        (_STOP,),
        "A bug of Tailrace: something that must hold did not.",
        "Report it with the message and the state folder's `crash-<pid>.txt`, after removing data from it.",
    ),
    ErrorCode(
        "LOG_DAMAGED",
        (_STOP,),
        "The file of the embedded log is damaged.",
        "Restore the file, newer than the target's progress.",
        "Start again; without such a copy: " + NEW_LOAD,
    ),
    ErrorCode(
        "LOG_MOVED",
        (_STOP,),
        "The file of the embedded log was removed or replaced while it was open.",
        "Put the file back.",
        "Start again; without the file: " + NEW_LOAD,
    ),
    ErrorCode(
        "LOG_VERSION",
        (_STOP, _START),
        "The log was written by another version, or something else writes into its commit topic.",
        "The version of Tailrace that wrote it; nothing else may write into `__tailrace-commit.<prefix>`.",
        "Start that version; else " + NEW_LOAD,
    ),
    ErrorCode(
        "NO_BEFORE_IMAGE",
        (_STOP,),
        "A table without key got an update or delete without its old row.",
        "Postgres source: `ALTER TABLE <table> REPLICA IDENTITY FULL`\n"
        "MySQL, MariaDB: `SET GLOBAL binlog_row_image = FULL`",
        "The events in the log stay without old row: " + NEW_LOAD,
    ),
    ErrorCode(
        "PARKED_ROWS",
        (_STOP,),
        "During the load more rows wait for a unique value than can be looked after.",
        "At the target: `ALTER TABLE <table> DROP INDEX <name>` for its unique keys; make them again after the load.",
    ),
    ErrorCode(
        "PARTITIONS_CHANGED",
        (_STOP,),
        "A topic has another number of partitions than before: a key would change its partition.",
        "`partitions=<number it has>` in the log's URI.",
        "Start again; to keep the new number: another `prefix=`, then " + NEW_LOAD,
    ),
    ErrorCode(
        "PREFIX_TAKEN",
        (_STOP, _START),
        "The log, or the topics of this prefix, belong to another pipeline.",
        "Kafka: `prefix=<another>` in the log's URI.\n"
        "Embedded: `--log sqlite:///<another path>`, or remove the holder: `tailrace drop --name <holder>`",
    ),
    ErrorCode(
        "ROLLED_BACK",
        (_STOP,),
        "A big transaction was rolled back after its rows were published.",
        "Nothing brings the log's rows back.",
        NEW_LOAD,
    ),
    ErrorCode(
        "ROW_MISSING",
        (_STOP,),
        "A row that is to be updated or deleted is not in the target: something else has changed it there.",
        "Let nothing else write into the target's tables; put the row back as it was.",
        "Start again; where the row is not known: " + NEW_LOAD,
    ),
    ErrorCode(
        "SCHEMA",
        (_STOP,),
        "The registry refuses a schema, or does not have it while registering is off.",
        'Refused: `PUT <registry>/config/<subject>` with `{"compatibility": "NONE"}`'
        "\n"
        "Not there: register the schema that the hint prints, or `registry: {auto_register: true}`",
    ),
    ErrorCode(
        "SCHEMA_CHANGE",
        (_STOP,),
        "The source changed a table in a way that is not applied to the target by itself.",
        "At the target: the statement of the hint. With `schema_changes: ignore-unsafe` it is left out.",
    ),
    ErrorCode(
        "SEQUENCE",
        (_STOP,),
        "The log's commit records are not consecutive.",
        "Keep log and target as they are and report it.",
        NEW_LOAD,
    ),
    ErrorCode(
        "SLOT_RECREATED",
        (_STOP,),
        "The replication slot stands beyond what the log holds: it was made anew, or something else has read it.",
        "Nothing brings back what lies between; let nothing else read the slot.",
        NEW_LOAD,
    ),
    ErrorCode(
        "SLOT_TAKEN",
        (_STOP,),
        "A replication slot of this name exists and is not this pipeline's.",
        "If nothing uses it: `SELECT pg_drop_replication_slot('<slot>')`; else `source: {slot: <another>}`.",
    ),
    ErrorCode(
        "SOURCE_BEHIND",
        (_STOP,),
        "The source lacks transactions that the log holds: it was restored, or failed over to a server that lagged.",
        "Point the source's URL at the server that has them, if there is one.",
        "Start again; else " + NEW_LOAD,
    ),
    ErrorCode(
        "SOURCE_SQL",
        (_STOP,),
        "The MySQL or MariaDB source refused a statement of ours.",
        "Correct what the detail names at the source.",
    ),
    ErrorCode(
        "START",
        (_STOP,),
        "`--from` names no position that capture can start at; a new Postgres slot starts now.",
        "`--from now`",
    ),
    ErrorCode(
        "STATE_HELD",
        (_STOP,),
        "Another process works in this state folder.",
        "Stop that process, or give this pipeline its own `--name <name>` or `--state <folder>`.",
    ),
    ErrorCode(
        "TARGET_MISFIT",
        (_STOP, _CHECK),
        "The target table does not fit: it is gone, lacks a column, has a NOT NULL column of its own or no "
        "transactions.",
        "Lacks a column: `ALTER TABLE <table> ADD COLUMN <column> <type>`\n"
        "NOT NULL: `ALTER TABLE <table> ALTER COLUMN <column> DROP NOT NULL` (MySQL: `MODIFY <column> <type> "
        "NULL`)\n"
        "Engine: `ALTER TABLE <table> ENGINE = InnoDB`",
        "Start again; a table that is gone: " + NEW_LOAD,
    ),
    ErrorCode(
        "TARGET_n",
        (_STOP,),
        "The target refused a statement; n is its SQLSTATE (Postgres) or error number (MySQL, MariaDB).",
        "Correct what the detail names at the target.",
    ),
    ErrorCode(
        "TOO_LARGE",
        (_STOP,),
        "A record is larger than the Kafka topic allows.",
        "`kafka-configs.sh --bootstrap-server <broker> --alter --entity-type topics --entity-name <topic> "
        "--add-config max.message.bytes=<bytes>`; beyond 64 MB also `kafka: {message.max.bytes: <bytes>}`",
    ),
    ErrorCode(
        "UNKNOWN_MESSAGE",
        (_STOP,),
        "The Postgres source sent a message that this version does not know.",
        "A version of Tailrace that knows it.",
    ),
    ErrorCode(
        "UNKNOWN_SCHEMA",
        (_STOP,),
        "An event names a schema that the registry does not have, or that describes no table.",
        "`registry=<the one that was used when its events were written>`; restore it if it was replaced.",
        "Start again; without it: " + NEW_LOAD,
    ),
    ErrorCode(
        "WAL_KEPT",
        (_STOP,),
        "The replication slot keeps much WAL at the source: `source.max_wal_kept` is reached, as a warning or as "
        "`stop`, or the server is about to give the slot up.",
        "Give the source's disk space, then raise `source: {max_wal_kept: {stop: <bytes>}}`: capture goes on and the "
        "WAL goes.\n"
        "If the source cannot wait: `tailrace drop`, which runs `SELECT pg_drop_replication_slot('<slot>')`; then a "
        "new load is due.\n"
        "If the slot is about to be given up: `ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()`",
    ),
    ErrorCode(
        "WRONG_SOURCE",
        (_STOP,),
        "The source is not the one that the log was written from.",
        "Point the source's URL at that one again, or give this source a pipeline of its own: `--name <another>`.",
        "Start again; to go on from the new source under the old name: " + NEW_LOAD,
    ),
)

_LOSTS = (
    ErrorCode(
        "LOG_LOST",
        (_LOST,),
        "The source has purged binary logs that were not read.",
        "Keep them longer: `SET GLOBAL binlog_expire_logs_seconds = <seconds>` (MariaDB before 10.6: "
        "`expire_logs_days`).",
    ),
    ErrorCode(
        "OFFSET_LOST",
        (_LOST, _STOP),
        "Records that the target still needs are gone from the log, or the log is older than the target.",
        "Kafka: keep data topics longer than a sink may stand still, `topics: {retention.ms: <ms>}`, and uncompacted.",
        NEW_LOAD,
    ),
    ErrorCode(
        "SLOT_LOST",
        (_LOST,),
        "The replication slot is gone, or the server has removed WAL that it needs.",
        "`ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()`",
        NEW_LOAD + " A `tail`: start it again.",
    ),
)

_ROWS = (
    ErrorCode(
        "DECODE",
        (_ROW, _STOP),
        "An event of the log cannot be read: it is torn, or not of the schema it names.",
        "Find what else writes into the log's topics, or restore the log.",
        "Start again; where the event stays as it is: " + NEW_LOAD,
    ),
    ErrorCode(
        "ROW_REJECTED",
        (_ROW,),
        "The target refuses a row: too long, out of range, null, not unique, a check. The message names table "
        "and column.",
        "At the target, as the hint says: `ALTER TABLE <table> ALTER COLUMN <column> TYPE <wider>` (MySQL: "
        "`MODIFY <column> <wider>`), or drop the constraint or key it names.\n"
        "A zero date of MySQL: `zero_dates: null`\n"
        "Or `on_row_error: dead_letter`.",
    ),
    ErrorCode(
        "STALE_KEY",
        (_ROW,),
        "An earlier event of this key was set aside, and this one lacks columns: it would mix two states.",
        "Once the target takes the row: `tailrace dead-letter replay --all`.\n"
        "Or at the source: `UPDATE <table> SET <column> = <its value> WHERE <key>`, so that all columns are sent; or "
        "delete the row.",
        "With `dead_letter` nothing. With `stop` set `dead_letter` until that event has passed.",
    ),
)

_WAITS = (
    ErrorCode(
        "COUNTED_OTHERWISE",
        (_WAIT,),
        "A table stops inside a big transaction of which a part is in the log: the transaction is read and published "
        "anew, without it.",
        "Nothing: capture goes on by itself. `tailrace status` names the table and why it stops.",
    ),
    ErrorCode(
        "FENCED",
        (_WAIT,),
        "Another process has taken over the log, or the sink.",
        "Stop one of the two: a pipeline has one capture, and one process a sink.",
    ),
    ErrorCode(
        "LOG_FULL",
        (_WAIT,),
        "The disk of the embedded log is full, or nearly.",
        "Free space there, or start the sink that lags: what every sink has applied is removed.",
    ),
    ErrorCode(
        "LOG_UNAVAILABLE",
        (_WAIT,),
        "The event log or the schema registry does not answer, or not in time.",
        "Start the brokers or the registry; the detail has what they said.",
    ),
    ErrorCode(
        "OUTCOME_UNKNOWN",
        (_WAIT,),
        "The answer to a commit was lost: it may have happened. What is stored decides.",
        "Nothing.",
    ),
    ErrorCode(
        "SERVER_ID_TAKEN",
        (_WAIT,),
        "Another reader streams from the source under our server_id; for a short time it may be our own last "
        "connection.",
        "Stop that reader, or `source: {server_id: <another>}`.",
    ),
    ErrorCode(
        "SOURCE_UNAVAILABLE",
        (_WAIT,),
        "The source does not answer, or broke the connection.",
        "Start the source, or let it be reached; the detail has what it said.",
    ),
    ErrorCode(
        "TARGET_UNAVAILABLE",
        (_WAIT,),
        "The target does not answer, or cannot apply now: no connection free, disk full, read-only, a lock.",
        "What the hint says, where it is not over by itself.",
    ),
)

CATALOGUE: tuple[ErrorCode, ...] = (*_STARTS, *_LOGINS, *_CHECKS, *_TABLES, *_STOPS, *_LOSTS, *_ROWS, *_WAITS)
