from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace_schemas.table import TableId
from tailrace_schemas.topic import MAX_LENGTH, commit_topic, data_topic, topic_name

_NAMES = st.text(min_size=1, max_size=70)


def test_plain_names_stay_as_they_are() -> None:
    assert data_topic("shop", TableId("public", "orders")) == "shop.public.orders"
    assert commit_topic("shop") == "__tailrace-commit.shop"


def test_changed_and_colliding_names_get_a_hash() -> None:
    assert data_topic("p", TableId("s", "a b")) != data_topic("p", TableId("s", "a_b"))
    assert data_topic("p", TableId("a.b", "c")) != data_topic("p", TableId("a", "b.c"))
    assert data_topic("p", TableId("s", "x" * 300)) != data_topic("p", TableId("s", "x" * 301))
    assert topic_name("..") != ".."


@given(_NAMES, _NAMES, _NAMES, _NAMES)
def test_every_table_has_a_legal_topic_of_its_own(schema: str, table: str, other_schema: str, other_table: str) -> None:
    one, other = TableId(schema, table), TableId(other_schema, other_table)
    topic = data_topic("p", one)
    assert 0 < len(topic) <= MAX_LENGTH
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in topic)
    assert (topic == data_topic("p", other)) == (one == other)
