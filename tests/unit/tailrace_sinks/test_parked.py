"""Names of parked tables."""

from tailrace_schemas.table import TableId
from tailrace_sinks.parked import parked_name, prefix

PROGRESS = TableId("tailrace", "progress")
SEATS = TableId("shop", "seats")


def test_a_parked_table_has_the_same_name_for_ever() -> None:
    assert parked_name(PROGRESS, "shop", "replica", SEATS) == "parked_ed2110df645f_f1d2164ba79ed275"


def test_pipelines_sinks_and_tables_do_not_share_a_name() -> None:
    names = {
        parked_name(PROGRESS, "shop", "replica", SEATS),
        parked_name(PROGRESS, "shop2", "replica", SEATS),
        parked_name(PROGRESS, "shop", "replica2", SEATS),
        parked_name(PROGRESS, "shop", "replica", TableId("shop", "rows")),
        parked_name(TableId("tailrace", "other"), "shop", "replica", SEATS),
    }
    assert len(names) == 5
    assert all(len(name) < 40 for name in names)
    assert parked_name(PROGRESS, "shop", "replica", SEATS).startswith(prefix(PROGRESS, "shop"))
