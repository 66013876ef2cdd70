"""`docs/metrics.md`: its table is that of the code, and its queries ask for metrics and labels that there are."""

import re

import pytest
from metrics_table import PAGE, page

from tidegate.outbound.metrics import FAMILIES

TEXT = PAGE.read_text(encoding="utf-8")

LABELS = {family.name: {label.name for label in family.labels} for family in FAMILIES}

QUERIES = re.findall(r"^\| .*\? \| `(.+)` \|$", TEXT, re.MULTILINE)


def test_the_table_is_that_of_the_code() -> None:
    assert page(TEXT) == TEXT, "python tests/support/metrics_table.py writes it anew"


def test_there_are_recipes() -> None:
    assert len(QUERIES) >= 10


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_metrics_that_there_are(query: str) -> None:
    names = re.findall(r"tidegate_[a-z_]+", query)
    assert names
    for name in names:
        labels = LABELS[name.removesuffix("_bucket")]
        for chosen in re.findall(name + r"\{([a-z_]+)", query):
            assert chosen in labels
        for grouped in re.findall(r"by \(([a-z_, ]+)\)", query):
            assert set(grouped.split(", ")) <= {*labels, "le"}


def test_whatever_is_named_on_the_page_is_a_metric() -> None:
    for name in re.findall(r"`(tidegate_[a-z_]+)`", TEXT):
        assert name in LABELS
