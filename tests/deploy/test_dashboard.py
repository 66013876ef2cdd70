"""The dashboard: well-formed for Grafana, and its queries name only what a gateway or our rules show."""

import itertools
import re
from typing import Any

import pytest
from deployed import METRICS, complaints, dashboard, panels, rules, selectors

ROWS = {
    "Truth": ["Stale now, and for how long", "Share of time stale", "Age of the data at delivery", "Breakers"],
    "Backends": ["Polls by outcome", "Poll duration, p99", "Start lag, p99", "Missed ticks"],
    "Clients": ["Clients against the limit", "Connects and leaves", "Refusals by reason", "Resumes by outcome"],
    "Machine": ["Loop lag and fan-out, p99", "Queued and kept bytes", "Store", "Memory and descriptors"],
}

UNITS = {"s", "percentunit", "none", "reqps", "ops", "bytes"}
"""Of those that Grafana knows."""

WIDTH = 24
"""Columns of Grafana's grid."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def test_four_rows_of_four_panels() -> None:
    shown: dict[str, list[str]] = {}
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            shown[panel["title"]] = row = []
        else:
            row.append(panel["title"])
    assert shown == ROWS


def test_panels_have_their_own_ids_and_places() -> None:
    all_panels = dashboard()["panels"]
    ids = [panel["id"] for panel in all_panels]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in all_panels:
        place = panel["gridPos"]
        own = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & own, panel["title"]
        cells |= own
    assert {column for column, _ in cells} == set(range(WIDTH))
    assert len(cells) == WIDTH * (1 + max(line for _, line in cells)), "there is a hole"


def test_rows_are_in_the_order_of_their_places() -> None:
    lines = [panel["gridPos"]["y"] for panel in dashboard()["panels"]]
    assert lines == sorted(lines)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == SOURCE
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert "{{" in target["legendFormat"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_queries_name_only_what_a_gateway_shows(panel: dict[str, Any]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for query in queries(panel):
        used = list(selectors(query))
        assert used or any(name in query for name in recorded), query
        assert [complaint for selector in used for complaint in complaints(selector)] == []


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_variables_restrict_every_query(panel: dict[str, Any]) -> None:
    """Each metric by the gateway, and each that has sources' types by these."""
    for query in queries(panel):
        for metric, matchers in selectors(query):
            restricted = {matcher.label for matcher in matchers if matcher.value.startswith("$")}
            is_by_type = any(label.name == "type" for label in METRICS[metric].labels)
            assert restricted == {"instance", *(["type"] if is_by_type else [])}, query


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_legends_name_only_labels_of_their_query(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        by = re.findall(r"by \(([^)]*)\)", target["expr"])
        if by:
            kept = {label.strip() for labels in by for label in labels.split(",")}
        else:
            kept = {"instance", "type"}.union(
                label.name for used in selectors(target["expr"]) for label in METRICS[used.metric].labels
            )
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, target["expr"]


def test_every_variable_is_used_and_every_used_one_is_there() -> None:
    board = dashboard()
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", str(board["panels"]) + str(board["templating"])))
    assert used == names == {"datasource", "instance", "type"}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric = re.match(r"label_values\((\w+)", variable["query"]["query"])
            assert metric
            assert metric[1] in METRICS


def test_marks_name_only_what_a_gateway_shows() -> None:
    marks = [mark for mark in dashboard()["annotations"]["list"] if "expr" in mark]
    assert len(marks) == 3
    assert [complaint for mark in marks for used in selectors(mark["expr"]) for complaint in complaints(used)] == []


def test_it_can_be_imported_anywhere() -> None:
    """It has no id of a database, and an id for links that says what it is. Grafana 10 and later read it as it is."""
    board = dashboard()
    assert (board["id"], board["uid"], board["title"]) == (None, "tidegate", "Tidegate")
    assert board["schemaVersion"] >= 39
