"""Table patterns and the namespace map."""

import pytest

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.mapping import NamespaceMap, TableSelection
from tailrace_schemas.table import TableId


def taken(patterns: list[str], *tables: str) -> list[str]:
    selection = TableSelection.parse("postgresql", patterns)
    return [name for name in tables if selection.selects(TableId(*name.split(".", 1)))]


def test_without_patterns_every_table_is_taken() -> None:
    assert taken([], "shop.orders", "public.x") == ["shop.orders", "public.x"]


@pytest.mark.parametrize("star", ["%", "*"])
def test_a_star_stands_for_any_run_and_nothing_else_does(star: str) -> None:
    names = ("shop.orders", "shop.order_lines", "shopping.orders", "Shop.orders", "shop.ordersX")
    assert taken([f"shop.{star}"], *names) == ["shop.orders", "shop.order_lines", "shop.ordersX"]
    assert taken([f"sho{star}.order{star}s"], *names) == ["shop.orders", "shop.order_lines", "shopping.orders"]
    assert taken(["shop.order_"], "shop.order_", "shop.orders") == ["shop.order_"]


def test_later_patterns_win() -> None:
    patterns = ["shop.*", "!shop.audit*", "shop.audit_keep"]
    assert taken(patterns, "shop.orders", "shop.audit", "shop.audit_keep") == ["shop.orders", "shop.audit_keep"]


def test_exclusions_alone_take_everything_else() -> None:
    assert taken(["!shop.audit"], "shop.audit", "shop.orders", "x.y") == ["shop.orders", "x.y"]


@pytest.mark.parametrize(
    ("pattern", "table"),
    [
        ('"my.schema".orders', TableId("my.schema", "orders")),
        ('shop."a*b"', TableId("shop", "a*b")),
        ('shop."say ""hi"""', TableId("shop", 'say "hi"')),
        ("`my db`.`t.1`", TableId("my db", "t.1")),
    ],
)
def test_quoted_parts_are_literal(pattern: str, table: TableId) -> None:
    selection = TableSelection.parse("mysql", [pattern])
    assert selection.selects(table)
    assert not selection.selects(TableId("my", "schema"))
    assert not selection.selects(TableId("shop", "axb"))


def test_a_dot_in_a_name_does_not_move_the_border_between_namespace_and_table() -> None:
    selection = TableSelection.parse("postgresql", ["a.*"])
    assert not selection.selects(TableId("a.b", "c"))


@pytest.mark.parametrize("pattern", ["orders", "a.b.c", "", ".orders", "shop.", '"shop', 'sh"op".x', "!", 'shop."a"b'])
def test_what_is_not_namespace_and_table_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"not namespace\.table"):
        TableSelection.parse("postgresql", [pattern])


def test_system_namespaces_are_never_taken() -> None:
    assert taken(["*.*"], "pg_catalog.pg_class", "information_schema.tables", "tailrace.progress", "mysql.user") == [
        "mysql.user"
    ]
    mysql = TableSelection.parse("mariadb", ["*.*"])
    assert not any(mysql.selects(TableId(name, "t")) for name in ("mysql", "sys", "PERFORMANCE_SCHEMA", "tailrace"))
    assert mysql.selects(TableId("pg_shop", "t"))


@pytest.mark.parametrize(
    ("patterns", "only"),
    [
        (["shop.*"], "shop"),
        (["shop.*", "!other.x", '"shop".x'], "shop"),
        (["shop.*", "other.x"], None),
        (["sho*.x"], None),
        (["!shop.x"], None),
        ([], None),
    ],
)
def test_the_only_namespace_is_known_where_patterns_say_so(patterns: list[str], only: str | None) -> None:
    assert TableSelection.parse("postgresql", patterns).only_namespace() == only


def test_a_mapped_namespace_is_renamed_and_others_keep_their_name() -> None:
    names = NamespaceMap.parse(["public=shop", "a=b=c"])
    assert names.target(TableId("public", "t")) == TableId("shop", "t")
    assert names.target(TableId("a", "t")) == TableId("b=c", "t")
    assert names.target(TableId("other", "t")) == TableId("other", "t")


@pytest.mark.parametrize("texts", [["public"], ["=x"], ["x="], ["a=b", "a=c"]])
def test_a_broken_map_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError):
        NamespaceMap.parse(texts)
