"""Topic names. Bytes outside [A-Za-z0-9._-] become `_`; a name so changed gets a hash of the true name behind it, so
that two tables never share a topic (interfaces.md, "Kafka")."""

from __future__ import annotations

import hashlib
import re

from tailrace_schemas.table import TableId

MAX_LENGTH = 249  # Kafka: org.apache.kafka.common.internals.Topic


def topic_name(text: str) -> str:
    """The topic of a true name: itself where Kafka allows it, else encoded, one-to-one."""
    plain = re.sub(r"[^A-Za-z0-9._-]", lambda match: "_" * len(match.group().encode()), text)
    if plain == text and 0 < len(text) <= MAX_LENGTH and text not in (".", "..") and not _looks_hashed(text):
        return text
    return _hashed(plain, text)


def _hashed(plain: str, true_name: str) -> str:
    suffix = "_x" + hashlib.sha256(true_name.encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9._-]", "_", plain)[: MAX_LENGTH - len(suffix)] + suffix


def _looks_hashed(text: str) -> bool:
    return re.search(r"_x[0-9a-f]{8}$", text) is not None


def data_topic(prefix: str, table: TableId) -> str:
    """`<prefix>.<schema>.<table>`. A dot inside schema or table could make two tables meet, so it counts as changed."""
    text = f"{prefix}.{table.schema}.{table.name}"
    if "." in table.schema or "." in table.name:
        return _hashed(text, f"{prefix}\0{table.schema}\0{table.name}")
    return topic_name(text)


def commit_topic(prefix: str) -> str:
    return topic_name(f"__tailrace-commit.{prefix}")


def heartbeat_topic(prefix: str) -> str:
    return topic_name(f"__debezium-heartbeat.{prefix}")


def transaction_topic(prefix: str) -> str:
    return topic_name(f"{prefix}.transaction")


def dead_letter_topic(prefix: str) -> str:
    return topic_name(f"__tailrace-dead-letter.{prefix}")
