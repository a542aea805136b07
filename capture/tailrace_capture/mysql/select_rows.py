"""Rows of a SELECT as raw packets: the load reads them without making a Python value of any column.

The statement runs on a pymysql connection; its rows are then cut from the socket's bytes here. FLOAT and
DOUBLE(m,d) are asked for as DOUBLE, since their own text forms are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
from pymysql.connections import Connection

from tailrace_capture.mysql.connection import inner, quote
from tailrace_capture.mysql.protocol import Packets
from tailrace_schemas.errors import SourceUnavailableError
from tailrace_schemas.table import Column, TableId, TableSchema

_COM_QUERY = 3
_READ_BYTES = 1 << 18


def table_sql(table: TableId) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}"


def column_sql(column: Column) -> str:
    name = quote(column.name)
    # FLOAT shows six digits of what it holds, DOUBLE(12,4) four decimals.
    rounded = column.type.kind == "float32" or (column.type.kind == "float64" and "(" in column.native)
    return f"{name} + 0e0" if rounded else name


def select_statement(schema: TableSchema) -> str:
    """All columns in order, for `plan.text_plan`."""
    columns = ", ".join(column_sql(column) for column in schema.columns)
    return f"SELECT {columns} FROM {table_sql(schema.table)}"


def row_packets(connection: Connection[Any], statement: str) -> Iterator[tuple[bytes, int, int]]:
    """Whole row packets, headers included, as (data, start, end): read them in order up to end. A packet that continues
    past 16 MB comes alone, joined, behind a header of zeros and its length in 8 bytes: see `is_big`.

    Raises:
        the driver's errors, and SourceUnavailableError: the connection broke.
    """
    driver = inner(connection)
    driver._execute_command(_COM_QUERY, statement)
    columns = driver._read_packet().read_length_encoded_integer()
    for _ in range(columns + 1):  # and the end of the column descriptions
        driver._read_packet()
    yield from _cut(connection)


def _cut(connection: Connection[Any]) -> Iterator[tuple[bytes, int, int]]:
    packets = Packets()
    while True:
        chunk = inner(connection)._rfile.read1(_READ_BYTES)
        if not chunk:
            raise SourceUnavailableError("the source closed the connection while rows were read")
        if not packets.add(chunk):
            continue
        data, first = packets.data, packets.at
        last = first
        while not isinstance(found := packets.cut(), int):
            packet, start, end = found
            if packet is not data:
                if last > first:
                    yield data, first, last
                yield packet, -1, end
                first = last = packets.at
                continue
            head = packet[start] if end > start else 0
            if head == 0xFE and end - start < 9:
                if last > first:
                    yield data, first, last
                return
            if head == 0xFF:
                _raise(packet[start:end])
            last = end
        if last > first:
            yield data, first, last
        packets.rest(found)


def _raise(packet: bytes) -> None:
    """
    Raises:
        pymysql's error for an error packet.
    """
    pymysql.err.raise_mysql_exception(packet)
