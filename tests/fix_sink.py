"""What sink tests write into a log; the same that the conformance suite uses."""

from tailrace_sinks.conformance_stream import ITEMS, Encoder, Row, Stream, column, table

__all__ = ["ITEMS", "Encoder", "Row", "Stream", "column", "table"]
