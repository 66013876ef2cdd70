"""Renders a report as Markdown, JSON or JUnit XML. Must not know how the report was made."""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import msgspec

from tidegate.errors import ConfigError, Problem
from tidegate.printable import printable
from tidegate.verify.report import Check, Outcome, Report, ScenarioResult

_MARKS = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.SKIPPED: "-", Outcome.UNTESTED: "?"}
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def renderer_for(path: Path) -> Callable[[Report], str]:
    """Return the renderer for the file name ending of `path`. Raises `ConfigError` for an unknown ending."""
    try:
        return RENDERERS[path.suffix]
    except KeyError:
        expected = f"a file name that ends in one of {', '.join(RENDERERS)}"
        raise ConfigError([Problem("--report", expected, repr(str(path)))]) from None


def markdown(report: Report) -> str:
    """Render a report as Markdown, for people."""
    lines = [
        "# Tidegate: verification",
        "",
        f"{summary(report)}",
        "",
        "| scenario | outcome | checks | seconds |",
        "| --- | --- | --- | --- |",
        *(_row(scenario) for scenario in report.scenarios),
    ]
    for scenario in report.scenarios:
        lines += ["", f"## {scenario.title}: {scenario.outcome}", "", scenario.promise, ""]
        if scenario.reason:
            lines += [f"**{scenario.outcome.capitalize()}:** {_cell(scenario.reason)}", ""]
        if scenario.checks:
            lines += ["| | at s | what was checked | what was seen |", "| --- | --- | --- | --- |"]
            lines += [
                f"| {_MARKS[check.outcome]} | {check.at_s:.2f} | {_cell(check.claim)} | {_cell(check.saw)} |"
                for check in scenario.checks
            ]
        if scenario.figures:
            lines += ["", "| | measured | value | bound |", "| --- | --- | --- | --- |"]
            lines += [
                f"| {_MARKS[check.outcome]} | {_cell(check.claim)} | {figure.shown} | {figure.shown_bound} |"
                for check, figure in scenario.figures
            ]
    return "\n".join(lines) + "\n"


def json(report: Report) -> str:
    """Render a report as JSON, for programs: all fields of `Report`, and `passed`."""
    document = {"passed": report.passed, **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def junit(report: Report) -> str:
    """Render a report as JUnit XML, for CI.

    Each scenario is a suite and each check a case. A scenario that could not be tested gets a case with an error. What
    was measured is a property of the suite.
    """
    root = ET.Element("testsuites", name="tidegate verify", time=f"{report.elapsed_s:.3f}")
    for scenario in report.scenarios:
        cases = [_case(scenario, check) for check in scenario.checks]
        if scenario.outcome is Outcome.UNTESTED:
            case = ET.Element("testcase", classname=scenario.name, name=scenario.title, time="0.000")
            ET.SubElement(case, "error", message=_xml(scenario.reason))
            cases.append(case)
        suite = ET.SubElement(
            root,
            "testsuite",
            name=scenario.title,
            tests=str(len(cases)),
            failures=str(scenario.count(Outcome.FAILED)),
            errors=str(int(scenario.outcome is Outcome.UNTESTED)),
            skipped=str(scenario.count(Outcome.SKIPPED)),
            time=f"{scenario.elapsed_s:.3f}",
            timestamp=_time(scenario.began),
        )
        if scenario.figures:
            properties = ET.SubElement(suite, "properties")
            for check, figure in scenario.figures:
                ET.SubElement(properties, "property", name=_xml(check.claim), value=_xml(str(figure)))
        suite.extend(cases)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


RENDERERS: Final[Mapping[str, Callable[[Report], str]]] = {".md": markdown, ".json": json, ".xml": junit}


def summary(report: Report) -> str:
    """Summarize the verification in one line."""
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in Outcome if report.count(outcome))
    skipped = sum(scenario.count(Outcome.SKIPPED) for scenario in report.scenarios)
    checks = sum(len(scenario.checks) for scenario in report.scenarios)
    more = f", {skipped} of them skipped" if skipped else ""
    verdict = "PASSED" if report.passed else "NOT PASSED"
    return (
        f"{verdict}: {report.target}, {_time(report.began)}, {report.elapsed_s:.1f} s;"
        f" scenarios: {counts or 'none'}; {checks} checks{more}"
    )


def _row(scenario: ScenarioResult) -> str:
    passed = scenario.count(Outcome.PASSED)
    skipped = scenario.count(Outcome.SKIPPED)
    checks = f"{passed} of {len(scenario.checks)} passed" + (f", {skipped} skipped" if skipped else "")
    return f"| {scenario.title} | {scenario.outcome} | {checks} | {scenario.elapsed_s:.1f} |"


def _case(scenario: ScenarioResult, check: Check) -> ET.Element:
    case = ET.Element("testcase", classname=scenario.name, name=_xml(check.claim), time="0.000")
    match check.outcome:
        case Outcome.FAILED:
            ET.SubElement(case, "failure", message=_xml(check.saw))
        case Outcome.SKIPPED:
            ET.SubElement(case, "skipped", message=_xml(check.saw))
        case _:
            ET.SubElement(case, "system-out").text = _xml(f"{check.at_s:.3f} s: {check.saw}")
    return case


def _cell(text: str) -> str:
    return printable(" ".join(text.replace("|", "\\|").split()))


def _xml(text: str) -> str:
    """Replace characters that XML 1.0 does not allow (section 2.2)."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _time(wall: float) -> str:
    return dt.datetime.fromtimestamp(wall, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
