"""The files in `deploy/`: the rules of Prometheus and the dashboard of Grafana, and the queries in them."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tidegate.outbound.metrics.families import FAMILIES

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES = PROMETHEUS / "tidegate.rules.yml"
RULE_TESTS = PROMETHEUS / "tidegate.test.yml"
DASHBOARD = ROOT / "deploy/grafana/tidegate.json"

needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus") or not shutil.which("promtool"),
    reason="no Prometheus: see tools/install-check-tools",
)

TARGET = frozenset({"job", "instance"})
"""Labels that every scrape adds."""

_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

METRICS = {family.name + suffix: family for family in FAMILIES for suffix in _SUFFIXES[family.kind]}
"""The declared metric of each name that a series may have."""

_NAME = re.compile(r"\b((?:tidegate|process)_[a-z_]+)(?:{([^}]*)})?")
_LABEL = re.compile(r"(\w+)\s*(=~|!=|!~|=)\s*\"([^\"]*)\"")


class Matcher(NamedTuple):
    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    """One metric in a query, and what it requires of labels."""

    metric: str
    matchers: tuple[Matcher, ...]


def selectors(query: str) -> Iterator[Selector]:
    """Every metric of the gateway that the `query` names."""
    for name, inside in _NAME.findall(query):
        yield Selector(name, tuple(Matcher(*found) for found in _LABEL.findall(inside)))


def complaints(selector: Selector) -> list[str]:
    """What is wrong with a selector: names and label values that no gateway shows."""
    family = METRICS.get(selector.metric)
    if family is None:
        return [f"{selector.metric} is not shown"]
    labels = {label.name: label for label in family.labels}
    found = []
    for label, operator, value in selector.matchers:
        if label in TARGET or (label == "le" and family.kind == "histogram"):
            continue
        if label not in labels:
            found.append(f"{selector.metric} has no label {label}")
        elif labels[label].values and not value.startswith("$"):
            values = value.split("|") if operator in ("=~", "!~") else [value]
            found += [
                f"{label} of {selector.metric} is never {one}" for one in values if one not in labels[label].values
            ]
    return found


def rules() -> list[dict[str, Any]]:
    """All rules, as they are in the file."""
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return board


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, without the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
