"""From a table's feed to the codec's plan."""

from __future__ import annotations

from tailrace_capture.postgres import values
from tailrace_capture.postgres.pgoutput import Plan
from tailrace_capture.source import TableFeed
from tailrace_schemas import wire


def build_plan(feed: TableFeed) -> Plan:
    """The plan of a table as `feed` describes it now; appends to the feed's buffer."""
    schema = feed.schema
    columns = schema.columns
    codes = [values.opcode(column.type, column.native) for column in columns]
    numbers = {column.name: n for n, column in enumerate(columns)}
    plan = Plan(
        names=[column.name for column in columns],
        ops=bytes(op for op, _, _ in codes),
        scales=bytes(scale for _, scale, _ in codes),
        nullable=bytes(column.nullable for column in columns),
        converters=[converter for _, _, converter in codes],
        zeros=[values.zero(column.type) for column in columns],
        placeholders=[values.placeholder(column.type) for column in columns],
        key_columns=[numbers[name] for name in schema.key],
        value_id=feed.value_id,
        key_id=feed.key_id,
        middle=wire.text_bytes(schema.table.schema) + wire.text_bytes(schema.table.name),
        buffer=feed.buffer,
    )
    plan.owner = feed
    return plan
