"""Which words of a server mean that it does not let us in."""

from __future__ import annotations

import pytest

from tailrace_schemas.refused import mysql_refusal, postgres_refusal

HEAD = 'connection to server at "db.example" (10.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "FATAL:  the database system is starting up",
        HEAD + "FATAL:  sorry, too many clients already",
        HEAD + 'FATAL:  too many connections for role "cdc"',
        HEAD + "SSL error: unexpected eof while reading",
        HEAD + "SSL SYSCALL error: EOF detected",
        HEAD + "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
        "",
    ],
)
def test_a_postgres_server_that_cannot_serve_now_refuses_nobody(text: str) -> None:
    assert postgres_refusal(text, "source", "db.example:5432/s") is None


def test_of_several_addresses_the_line_that_says_why_is_the_detail() -> None:
    text = (
        f'Multiple connection attempts failed. All failures were:\n- host: ::1: {HEAD}FATAL:  role "x" does not exist'
    )
    error = postgres_refusal(text, "target", "localhost:5432/t")
    assert error is not None
    assert (error.code, error.message) == ("PASSWORD", "the target localhost:5432/t refuses the connection")
    assert error.detail.endswith('role "x" does not exist')
    assert error.hint == "create the role, or name another in the target URI"


@pytest.mark.parametrize(
    "number, text, code",
    [
        (1045, "Access denied for user 'cdc'@'h' (using password: YES)", "PASSWORD"),
        (1044, "Access denied for user 'cdc'@'h' to database 'd'", "GRANT"),
        (1049, "Unknown database 'd'", "NO_DATABASE"),
        (1698, "Access denied for user 'root'@'localhost'", "PASSWORD"),
        (
            2003,
            "Can't connect to MySQL server on 'h' ([SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed)",
            "TLS",
        ),
        (2003, "Can't connect to MySQL server on 'h' ([SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca)", "TLS"),
    ],
)
def test_a_mysql_refusal_is_known_by_its_number_and_by_tls_words(number: int, text: str, code: str) -> None:
    error = mysql_refusal(number, text, "source", "h:3306/d")
    assert error is not None
    assert (error.code, error.detail) == (code, text)
    assert error.hint


@pytest.mark.parametrize("number", [0, 1040, 1053, 2003, 2006, 2013])
def test_a_mysql_server_that_cannot_serve_now_refuses_nobody(number: int) -> None:
    assert mysql_refusal(number, "Can't connect ([Errno 111] Connection refused)", "source", "h:3306/d") is None
