"""Every query of the dashboard gives a result after a real outage, or is one of the exceptions."""

from typing import Any

import pytest
from deployed import dashboard, needs_prometheus, panels
from outage import SCRAPE_S, SOURCES, Outage

pytestmark = [pytest.mark.real, needs_prometheus]

EXCEPTIONS = {"Starts": "it was started once, before the first scrape"}

QUERIES: dict[str, str] = {
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]},
    **{mark["name"]: mark["expr"] for mark in dashboard()["annotations"]["list"] if "expr" in mark},
}


def filled_in(query: str) -> str:
    """The `query` as Grafana would send it, with all gateways and types chosen."""
    for variable, value in {
        "$__rate_interval": f"{round(4000 * SCRAPE_S)}ms",
        "$instance": ".+",
        "$type": ".+",
    }.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def course(watched: Outage, query: str) -> list[Any]:
    return watched.prometheus.course(filled_in(query), start=watched.began, end=watched.ended, step_s=SCRAPE_S)


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_gives_a_result(watched: Outage, name: str) -> None:
    found = course(watched, QUERIES[name])
    numbers = [value for series in found for _, value in series["values"] if value != "NaN"]
    assert bool(numbers) is (name not in EXCEPTIONS)


def test_the_variables_find_the_gateway_and_its_types(watched: Outage) -> None:
    found = {}
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            inside = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
            selector, _, label = filled_in(inside).rpartition(", ")
            found[label] = set(watched.prometheus.ask(f"label/{label}/values", **{"match[]": selector}))
    assert found == {"instance": {watched.gateway.url.removeprefix("http://")}, "type": set(SOURCES)}


def test_the_first_panel_tells_which_sources_are_stale(watched: Outage) -> None:
    """None after the outage, but for the force-open at its end; both during it, for longer and longer."""
    ((_, query),) = [item for item in QUERIES.items() if item[0].startswith("Stale now")]
    found = {
        series["metric"]["type"]: [float(value) for _, value in series["values"]] for series in course(watched, query)
    }
    assert found.keys() == set(SOURCES)
    for ages in found.values():
        assert max(ages) > 10
