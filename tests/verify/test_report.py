"""What checks come to, and what a report of them comes to."""

import pytest

from tidegate.verify.report import Check, Outcome, Report, ScenarioResult, verdict

PASSED, FAILED, SKIPPED, UNTESTED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.UNTESTED


def check(outcome: Outcome, claim: str = "c") -> Check:
    return Check(claim=claim, outcome=outcome, saw="s", at_s=1.0)


@pytest.mark.parametrize(
    ("outcomes", "obstacle", "death", "expected"),
    [
        ([PASSED], None, None, (PASSED, "")),
        ([PASSED, SKIPPED], None, None, (PASSED, "")),
        ([PASSED, FAILED, PASSED], None, None, (FAILED, "c: s")),
        ([FAILED, FAILED, FAILED], None, None, (FAILED, "c: s (and 2 more)")),
        ([PASSED, FAILED], "in the way", None, (FAILED, "c: s")),
        ([PASSED], "in the way", None, (UNTESTED, "in the way")),
        ([PASSED, FAILED], None, "the engine is dead", (UNTESTED, "the engine is dead")),
        ([PASSED], "in the way", "the engine is dead", (UNTESTED, "the engine is dead")),
        ([], None, None, (UNTESTED, "nothing could be checked")),
        ([SKIPPED, SKIPPED], None, None, (UNTESTED, "nothing could be checked")),
    ],
)
def test_a_scenario_passes_only_if_it_could_be_tested(
    outcomes: list[Outcome], obstacle: str | None, death: str | None, expected: tuple[Outcome, str]
) -> None:
    assert verdict(list(map(check, outcomes)), obstacle=obstacle, death=death) == expected


def report(*scenarios: list[Outcome], owns_gateway: bool) -> Report:
    return Report(
        target="t",
        owns_gateway=owns_gateway,
        began=0.0,
        elapsed_s=1.0,
        scenarios=[
            ScenarioResult(
                name="n",
                title="t",
                promise="p",
                outcome=verdict(list(map(check, outcomes)))[0],
                reason="",
                began=0.0,
                elapsed_s=1.0,
                checks=list(map(check, outcomes)),
            )
            for outcomes in scenarios
        ],
    )


@pytest.mark.parametrize(
    ("scenarios", "owns_gateway", "passed"),
    [
        ([[PASSED], [PASSED]], True, True),
        ([[PASSED], [PASSED, FAILED]], True, False),
        ([[PASSED], []], True, False),
        ([], True, False),
        ([[PASSED, SKIPPED]], True, False),
        ([[PASSED, SKIPPED]], False, True),
        ([[SKIPPED]], False, False),
    ],
)
def test_only_a_deployment_may_leave_something_out(
    scenarios: list[list[Outcome]], owns_gateway: bool, passed: bool
) -> None:
    assert report(*scenarios, owns_gateway=owns_gateway).passed is passed
