"""The alert rules: promtool finds nothing wrong, and they name only what a gateway shows."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from deployed import PROMETHEUS, RULE_TESTS, alerts, complaints, needs_prometheus, rules, selectors


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.real
@needs_prometheus
def test_promtool_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool(
        "check", "rules", "--lint=all", "--lint-fatal", "tidegate.rules.yml"
    )


@pytest.mark.real
@needs_prometheus
def test_alerts_fire_nearly_fire_and_resolve() -> None:
    promtool("test", "rules", "tidegate.test.yml")


def test_every_alert_is_tested_in_both_ways() -> None:
    """For each alert there is a moment before it fires, one at which it does, and a later one at which it does not."""
    tests: list[dict[str, Any]] = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    fires: dict[str, list[str]] = {name: [] for name in alerts()}
    for test in tests:
        course: dict[str, str] = {}
        for moment in test.get("alert_rule_test", ()):
            name = moment["alertname"]
            course[name] = course.get(name, "") + ("!" if moment["exp_alerts"] else ".")
        for name, text in course.items():
            fires[name].append(text)
    untested = {name: seen for name, seen in fires.items() if not any(re.fullmatch(r"\.*!+\.+", text) for text in seen)}
    assert not untested


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_name_only_what_a_gateway_shows(rule: dict[str, Any]) -> None:
    used = list(selectors(rule["expr"]))
    assert used or rule["alert"] == "TidegateDown"
    assert [complaint for selector in used for complaint in complaints(selector)] == []


@pytest.mark.parametrize("alert", alerts().values(), ids=alerts())
def test_every_alert_says_how_urgent_it_is_and_what_clients_notice(alert: dict[str, Any]) -> None:
    assert alert["labels"] == {"severity": "page"} or alert["labels"] == {"severity": "ticket"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
    assert "client" in alert["annotations"]["description"].lower()


def test_no_rule_drops_labels_of_its_target() -> None:
    """`by` would drop what a scrape configuration has added, and join gateways that differ in that alone."""
    assert [rule["expr"] for rule in rules() if re.search(r"\bby\b|\bon\b", rule["expr"])] == []
