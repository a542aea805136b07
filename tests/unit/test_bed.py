"""The test bed itself: servers come, answer, break and come back as the fixtures say."""

import psycopg
import pytest
from fix_servers import POSTGRES_NAMES, fresh_postgres_database, private_server, server, wait_until


def postgres_value(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


@pytest.mark.servers
@pytest.mark.parametrize("name", POSTGRES_NAMES)
def test_shared_postgres_is_the_version_its_name_says(name: str) -> None:
    found = server(name)
    assert found.version.startswith(name.removeprefix("POSTGRES"))
    assert postgres_value(found.url, "show server_version") == found.version
    assert postgres_value(found.url, "show wal_level") == "logical"
