"""Replicas of a test's own servers: a Postgres standby, a MySQL or MariaDB replica by GTID, and how each is promoted.

Each is a `PrivateServer` beside its primary, on the same machine, and ends with its body.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
from fix_mysql import Sql
from fix_servers import MARIADB_NAMES, PrivateServer, private_server, wait_until

STANDBY_SLOT = "standby"
STANDBY = f"""
hot_standby_feedback = on
primary_slot_name = '{STANDBY_SLOT}'
wal_receiver_status_interval = 1s
"""


@contextmanager
def postgres_standby(primary: PrivateServer) -> Iterator[PrivateServer]:
    """A hot standby that streams by the physical slot `standby`, which is made here. From 17 on it copies the primary's
    failover slots. Its data is a base backup by the low-level interface: the bed's programs have no pg_basebackup."""
    config = STANDBY + f"primary_conninfo = '{_conninfo(primary)}'\n"
    if primary.name in ("POSTGRES17", "POSTGRES18"):
        config += "sync_replication_slots = on\n"
    with psycopg.connect(primary.url, autocommit=True) as admin:
        admin.execute("SELECT pg_create_physical_replication_slot(%s, true)", (STANDBY_SLOT,))
        with private_server(primary.name, config=config, fill=partial(_backup, admin, primary.data)) as standby:
            yield standby


def _conninfo(server: PrivateServer) -> str:
    return f"host={server.host} port={server.port} user=postgres dbname=postgres"


def _backup(admin: psycopg.Connection[tuple[object, ...]], source: Path, data: Path) -> None:
    """PostgreSQL manual, "Making a Base Backup Using the Low Level API"; WAL comes by streaming from the slot."""
    new = admin.info.server_version >= 150000
    admin.execute("SELECT pg_backup_start('t', true)" if new else "SELECT pg_start_backup('t', true, false)")
    subprocess.run(["cp", "-a", str(source), str(data)], check=True)
    stop = (
        "SELECT labelfile FROM pg_backup_stop(false)" if new else "SELECT labelfile FROM pg_stop_backup(false, false)"
    )
    row = admin.execute(stop).fetchone()
    assert row is not None
    for part in ("postmaster.pid", "postmaster.opts"):
        (data / part).unlink(missing_ok=True)
    for folder in ("pg_wal", "pg_replslot"):
        subprocess.run(["find", str(data / folder), "-mindepth", "1", "-delete"], check=True)
    _write(data / "backup_label", str(row[0]))
    _write(data / "standby.signal", "")


def _write(path: Path, text: str) -> None:
    """As the server's own file: it may run as another user than the test."""
    path.write_text(text)
    subprocess.run(["chown", f"--reference={path.parent}", str(path)], check=True)


def demote(old: PrivateServer, new: PrivateServer) -> None:
    """The stopped old primary is a standby of `new` from its next start on. It must have nothing that `new` lacks."""
    with psycopg.connect(new.url, autocommit=True) as admin:
        admin.execute("SELECT pg_create_physical_replication_slot(%s, true)", (STANDBY_SLOT,))
    _write(old.data / "postgresql.auto.conf", STANDBY + f"primary_conninfo = '{_conninfo(new)}'\n")
    _write(old.data / "standby.signal", "")


def promote_postgres(standby: PrivateServer) -> None:
    with psycopg.connect(standby.url, autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)


def standby_has(standby: PrivateServer, primary_url: str) -> None:
    """Wait until it has replayed all that the primary has written by now."""
    with psycopg.connect(primary_url) as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    with psycopg.connect(standby.url, autocommit=True) as connection:
        query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        wait_until(lambda: connection.execute(query, row).fetchone() == (True,), 30, "the standby is level")


@contextmanager
def mysql_replica(primary: PrivateServer, *, config: str = "") -> Iterator[PrivateServer]:
    """A replica by GTID auto position (MariaDB: slave_pos), with a binary log of its own; it begins with the primary's
    first transaction."""
    with private_server(primary.name, config=config) as replica:
        run_on(replica, *_follow(primary))
        yield replica


def _follow(primary: PrivateServer) -> tuple[str, ...]:
    if primary.name in MARIADB_NAMES:
        return (
            f"CHANGE MASTER TO master_host='{primary.host}', master_port={primary.port}, master_user='cdc',"
            " master_password='pw', master_use_gtid=slave_pos, master_connect_retry=1"
            + ("" if primary.name == "MARIADB1011" else ", master_ssl_verify_server_cert=0"),
            "START SLAVE",
        )
    return (
        f"CHANGE REPLICATION SOURCE TO source_host='{primary.host}', source_port={primary.port}, source_user='cdc',"
        " source_password='pw', source_auto_position=1, source_connect_retry=1, get_source_public_key=1",
        "START REPLICA",
    )


def follow(replica: PrivateServer, primary: PrivateServer) -> None:
    """Let it follow this primary from now on."""
    run_on(replica, *_follow(primary))


def stop_following(replica: PrivateServer) -> None:
    """It keeps what it has and takes nothing more."""
    run_on(replica, "STOP SLAVE" if replica.name in MARIADB_NAMES else "STOP REPLICA")


def promote_mysql(replica: PrivateServer) -> None:
    """It follows nobody any more."""
    stop_following(replica)
    run_on(replica, "RESET SLAVE ALL" if replica.name in MARIADB_NAMES else "RESET REPLICA ALL")


def replica_has(replica: PrivateServer, primary: PrivateServer) -> None:
    """Wait until it has applied all that the primary has committed by now."""
    maria = primary.name in MARIADB_NAMES
    ((there,),) = run_on(primary, "SELECT @@GLOBAL.gtid_binlog_pos" if maria else "SELECT @@GLOBAL.gtid_executed")
    wait = f"SELECT MASTER_GTID_WAIT('{there}', 30)" if maria else f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{there}', 30)"
    assert run_on(replica, wait) == [(0,)], f"the replica is not level: {there}"


def run_on(server: PrivateServer, *statements: str) -> list[tuple[object, ...]]:
    """The rows of the last statement, as `cdc`."""
    sql = Sql(server.url)
    try:
        return sql.run(*statements)
    finally:
        sql.close()
