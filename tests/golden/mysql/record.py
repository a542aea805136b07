"""Record binary log events of a running server with what they decode to, after checking that against its own text.

python tests/golden/mysql/record.py NAME mysql://user:password@host:port/DATABASE      (an empty database)
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
sys.path.insert(0, str(HERE.parents[1] / "pipeline"))


def plain(value: Any) -> Any:
    """A decoded value as JSON keeps it."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if isinstance(value, int | str | None) else str(value)


def main(name: str, url: str) -> None:
    from fix_mysql import Sql, decoder_of
    from test_mysql_source_types import build, check_events, columns_of, insert_all  # type: ignore[import-not-found]

    sql = Sql(url)
    columns = [
        (spelling, kept)
        for spelling, values in columns_of(sql)
        if (kept := [value for value in values if "repeat" not in value])
    ]
    build(sql, columns, True)
    schema = sql.table("t")
    start = sql.place()
    insert_all(sql, columns, True)
    decoder = decoder_of(sql, schema)
    decoder.feed(sql.events(start))
    check_events(sql, schema, decoder.events(schema.table), "c")
    if not sql.mariadb:
        sql.run("SET SESSION binlog_transaction_compression = ON")
    sql.run("UPDATE t SET id = id + 2000 WHERE id IN (1, 1000)", "UPDATE t SET c0 = NULL WHERE id IN (0, 3)")
    sql.run("DELETE FROM t WHERE id = 2")
    events = sql.events(start)
    decoder.feed(events)
    charsets = decoder.charsets
    used = {column.collation for column in schema.columns} | {"binary"}
    data = {
        "version": sql.run("SELECT version()")[0][0],
        "mariadb": sql.mariadb,
        "schema": schema.to_json(),
        "collations": {
            number: [c.name, c.charset, c.bytes_per_character]
            for number, c in charsets.collations.items()
            if c.name in used
        },
        "events": [event.hex() for event in events],
        "decoded": [plain([key, value]) for key, value in decoder.events(schema.table)],
    }
    (HERE / f"{name}.json").write_text(json.dumps(data, ensure_ascii=False, indent=0) + "\n")
    sql.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
