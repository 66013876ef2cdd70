"""The three forms of a report."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from tidegate.errors import ConfigError
from tidegate.verify.rendering import RENDERERS, renderer_for, summary
from tidegate.verify.report import Check, Figure, Outcome, Report, ScenarioResult


def check(claim: str, outcome: Outcome, saw: str, figure: Figure | None = None) -> Check:
    return Check(claim=claim, outcome=outcome, saw=saw, at_s=1.25, figure=figure)


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
MEASURED = msgspec.structs.replace(
    REPORT,
    scenarios=[
        scenario(
            "measured",
            Outcome.FAILED,
            "too late",
            check("first", Outcome.PASSED, "s", Figure(0.846, 1.2, "s")),
            check("last", Outcome.FAILED, "s", Figure(None, 3, "s")),
            check("calls", Outcome.PASSED, "s", Figure(1234, 20000, "calls")),
        )
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


def test_figures_stand_beside_their_bounds() -> None:
    lines = RENDERERS[".md"](MEASURED).splitlines()
    assert lines[lines.index("| | measured | value | bound |") :] == [
        "| | measured | value | bound |",
        "| --- | --- | --- | --- |",
        "| ✓ | first | 0.85 s | 1.20 s |",
        "| ✗ | last | never | 3.00 s |",
        "| ✓ | calls | 1234 calls | 20000 calls |",
    ]
    document = json.loads(RENDERERS[".json"](MEASURED))
    figures = [found["figure"] for found in document["scenarios"][0]["checks"]]
    assert figures[:2] == [
        {"measured": 0.846, "bound": 1.2, "unit": "s"},
        {"measured": None, "bound": 3, "unit": "s"},
    ]
    found = {p.get("name"): p.get("value") for p in ET.fromstring(RENDERERS[".xml"](MEASURED)).iter("property")}
    assert found == {
        "first": "0.85 s, bound 1.20 s",
        "last": "never, bound 3.00 s",
        "calls": "1234 calls, bound 20000 calls",
    }


def test_the_summary_says_it_in_one_line() -> None:
    assert summary(REPORT) == (
        "NOT PASSED: a gateway, 1970-01-01T00:00:00Z, 12.5 s;"
        " scenarios: 1 passed, 1 failed, 1 could not test; 3 checks, 1 of them skipped"
    )


@pytest.mark.parametrize("name", ["report.txt", "report", ".md"])
def test_another_ending_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--report: expected a file name that ends in one of \.md, \.json, \.xml"):
        renderer_for(Path(name))
