"""Why a database server does not let us in: the words of the server or the driver to a `RefusedError`.

Pure. One table per family for both ends of a pipeline, by error number where the driver gives one. libpq gives none for
a connection that fails, only the server's text, which stands in the language of its `lc_messages`: in another language
than English a refusal is taken for a server that cannot be reached now. A server that starts, stops or has no free
connection refuses nobody: those are left to the caller.
Sources: PostgreSQL manual, "Error Codes" and libpq's fe-connect.c; MySQL 8.0 "Server Error Message Reference"; MariaDB
"Error Codes".
"""

from __future__ import annotations

import re
from typing import Literal

from tailrace_schemas.errors import RefusedError

End = Literal["source", "target"]

# Words of the text, code, hint. The SQLSTATEs they stand for: 28P01, 28000, 3D000, 42501.
_POSTGRES = (
    (r"no password supplied|authentication failed for user", "PASSWORD", "check user and password of the {end} URI"),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "PG_HBA",
        "add a line for this host, user and database to the {end}'s pg_hba.conf; then SELECT pg_reload_conf()",
    ),
    (r'database ".*" does not exist', "NO_DATABASE", "create the database, or name another in the {end} URI"),
    (r'role ".*" does not exist', "PASSWORD", "create the role, or name another in the {end} URI"),
    (r'role ".*" is not permitted to log in', "PASSWORD", "ALTER ROLE … LOGIN"),
    (r'permission denied for database "(.*)"', "PRIVILEGE", "GRANT CONNECT ON DATABASE … TO the role"),
    (
        r"permission denied to start WAL sender|must be superuser or replication role",
        "PRIVILEGE",
        "ALTER ROLE … REPLICATION",
    ),
    (
        # A server that dies in the handshake is an unexpected end of file, and is to be tried again.
        r"certificate|does not support SSL|SSL error: (?!unexpected eof)|private key file",
        "TLS",
        "check sslmode, sslrootcert, sslcert and sslkey of the {end} URI",
    ),
)
_MYSQL: dict[int, tuple[str, str]] = {
    1044: ("GRANT", "GRANT the user its rights on the {end}'s database, or name another in the URI"),
    1045: ("PASSWORD", "check user and password of the {end} URI"),
    1049: ("NO_DATABASE", "create the database, or name another in the {end} URI"),
    1130: ("GRANT", "CREATE USER for this host at the {end}"),
    1251: ("PASSWORD", "the user's authentication plugin is not supported: ALTER USER … IDENTIFIED WITH another"),
    1698: ("PASSWORD", "the user may log in over the server's socket only: ALTER USER … IDENTIFIED BY a password"),
    1820: ("PASSWORD", "the password has expired: ALTER USER … IDENTIFIED BY a new one"),
    1862: ("PASSWORD", "the password has expired: ALTER USER … IDENTIFIED BY a new one"),
    2026: ("TLS", "check sslmode, sslrootcert, sslcert and sslkey of the {end} URI"),
    2059: ("PASSWORD", "the user's authentication plugin is not supported: ALTER USER … IDENTIFIED WITH another"),
    2061: ("TLS", "the user's authentication plugin needs TLS: sslmode=verify-full"),
    3118: ("PASSWORD", "the account is locked: ALTER USER … ACCOUNT UNLOCK"),
    3159: ("TLS", "the server requires TLS: sslmode=verify-full"),
    4151: ("PASSWORD", "the account is locked: ALTER USER … ACCOUNT UNLOCK"),
}


def postgres_refusal(text: str, end: End, place: str) -> RefusedError | None:
    """`text`: what libpq says of a connection that failed, one or more lines. None: not a refusal."""
    for line in text.strip().splitlines():
        for pattern, code, hint in _POSTGRES:
            if re.search(pattern, line):
                return _refused(end, place, code, line.strip(" -\t"), hint)
    return None


def mysql_refusal(number: int, text: str, end: End, place: str) -> RefusedError | None:
    """`number`, `text`: of the error with which the driver could not connect; 0 where it has none. None: not a
    refusal."""
    # The driver reports whatever goes wrong in the TLS handshake as a host that cannot be reached (2003).
    if number not in _MYSQL and re.search(r"certificate|\[SSL: \w*ALERT", text, re.IGNORECASE):
        number = 2026
    if number not in _MYSQL:
        return None
    code, hint = _MYSQL[number]
    return _refused(end, place, code, text, hint)


def _refused(end: End, place: str, code: str, detail: str, hint: str) -> RefusedError:
    return RefusedError(
        f"the {end} {place} refuses the connection", code=code, detail=detail, hint=hint.format(end=end)
    )
