"""The three forms of a report."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tidegate.errors import ConfigError
from tidegate.verify.rendering import RENDERERS, renderer_for, summary
from tidegate.verify.report import Check, Outcome, Report, ScenarioResult


def check(claim: str, outcome: Outcome, saw: str) -> Check:
    return Check(claim=claim, outcome=outcome, saw=saw, at_s=1.25)


def scenario(name: str, outcome: Outcome, reason: str, *checks: Check) -> ScenarioResult:
    return ScenarioResult(
        name=name,
        title=f"1. {name}",
        promise="It holds.",
        outcome=outcome,
        reason=reason,
        began=0.0,
        elapsed_s=2.5,
        checks=list(checks),
    )


REPORT = Report(
    target="a gateway",
    owns_gateway=False,
    began=0.0,
    elapsed_s=12.5,
    scenarios=[
        scenario("good", Outcome.PASSED, "", check("a|b", Outcome.PASSED, "x\ny"), check("c", Outcome.SKIPPED, "why")),
        scenario("bad", Outcome.FAILED, "d: \x00", check("d", Outcome.FAILED, "\x00<&")),
        scenario("gone", Outcome.UNTESTED, "the engine has ended"),
    ],
)


def test_markdown_is_for_people() -> None:
    lines = RENDERERS[".md"](REPORT).splitlines()
    assert "| 1. good | passed | 1 of 2 passed, 1 skipped | 2.5 |" in lines
    assert "| ✓ | 1.25 | a\\|b | x y |" in lines
    assert "**Could not test:** the engine has ended" in lines


def test_json_is_the_report_itself() -> None:
    document = json.loads(RENDERERS[".json"](REPORT))
    assert document["passed"] is False
    assert [found["outcome"] for found in document["scenarios"]] == ["passed", "failed", "could not test"]
    assert document["scenarios"][0]["checks"][1] == {"claim": "c", "outcome": "skipped", "saw": "why", "at_s": 1.25}


def test_junit_has_a_case_for_each_check_and_each_scenario_that_could_not_be_tested() -> None:
    root = ET.fromstring(RENDERERS[".xml"](REPORT))
    suites = root.findall("testsuite")
    counts = [[suite.get(name) for name in ("tests", "failures", "errors", "skipped")] for suite in suites]
    assert counts == [["2", "0", "0", "1"], ["1", "1", "0", "0"], ["1", "0", "1", "0"]]
    assert suites[0].get("timestamp") == "1970-01-01T00:00:00Z"
    [failure] = suites[1].iter("failure")
    assert failure.get("message") == "\N{REPLACEMENT CHARACTER}<&"
    [error] = suites[2].iter("error")
    assert error.get("message") == "the engine has ended"


def test_the_summary_says_it_in_one_line() -> None:
    assert summary(REPORT) == (
        "NOT PASSED: a gateway, 1970-01-01T00:00:00Z, 12.5 s;"
        " scenarios: 1 passed, 1 failed, 1 could not test; 3 checks, 1 of them skipped"
    )


@pytest.mark.parametrize("name", ["report.txt", "report", ".md"])
def test_another_ending_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--report: expected a file name that ends in one of \.md, \.json, \.xml"):
        renderer_for(Path(name))
