"""The verification of real processes: a good gateway passes, and each planted defect is found by the right scenario."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import Program, is_running, tidegate, until

from tidegate.verify import Outcome, Report, verify
from tidegate.verify.deployment import local_deployment
from tidegate.verify.obstacles import CouldNotTest
from tidegate.verify.runner import NoProgress, play
from tidegate.verify.scenarios import SCENARIOS, recovery

pytestmark = pytest.mark.real

DEFECTIVE_GATEWAY = Path(__file__).with_name("defective_gateway.py")

AT_ONCE = 8
"""Defective gateways under test at the same time, so that all with the longest scenario begin together."""

FOUND = {
    "stale_flag_missing": ("degradation", "every source says that it is stale"),
    "breaker_never_opens": ("transitions", "it opens"),
    "error_overwrites_the_cache": ("cache", "overwrites nothing"),
    "no_snapshot": ("degradation", "the last good data"),
    "probe_stampede": ("recovery", "while the probe is under way nobody else calls"),
    "late_result_closes_the_breaker": ("transitions", "a success from before the trip does not close"),
    "no_knocking": ("recovery", "it is probed as soon as it can be reached"),
    "knocking_at_a_sick_backend": ("recovery", "was told of no move that a breaker may not make"),
    "no_catching_up": ("recovery", "the last one soon after the first"),
    "catching_up_without_a_cap": ("recovery", "calls in the busiest second after"),
    "silent_drop": ("degradation", "got every event once, in order"),
    "as_of_refreshed_by_a_failure": ("degradation", "with an unchanged as_of"),
    "failed_mapping_counts": ("mistakes", "a mapping that fails of every source: it is not held against the backend"),
    "probe_that_blames_our_call_decides_nothing": ("mistakes", "and the backend is back: it closes"),
    "synced_too_early": ("degradation", "was told when all had been handed over"),
}
"""For each defect the scenario that must fail, and what it must say."""


class Verification(NamedTuple):
    """A verification of a gateway without defects by the program itself, and where it writes its report."""

    program: Program
    path: Path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verification]:
    path = tmp_path_factory.mktemp("good") / "report.json"
    with tidegate("verify", "--report", str(path)) as program:
        yield Verification(program, path)


@pytest.fixture(scope="module")
def found(begun: Verification) -> Mapping[str, Report]:
    """What verifying each defective gateway came to, of the one scenario that must find the defect.

    All of it waits most of the time, so the good gateway is verified meanwhile.
    """
    del begun
    room = asyncio.Semaphore(AT_ONCE)

    async def verified(defect: str, scenario: str) -> Report:
        async with room:
            command = (sys.executable, str(DEFECTIVE_GATEWAY), defect)
            return await verify(scenarios=[scenario], gateway_command=command)

    # The longest scenario begins first, so that none of them is waited for alone in the end.
    found = sorted(FOUND, key=lambda defect: FOUND[defect][0] != "recovery")

    async def all_verified() -> list[Report]:
        return await asyncio.gather(*(verified(defect, FOUND[defect][0]) for defect in found))

    return dict(zip(found, asyncio.run(all_verified()), strict=True))


@pytest.mark.parametrize("defect", FOUND)
def test_a_planted_defect_is_found(found: Mapping[str, Report], defect: str) -> None:
    [scenario] = found[defect].scenarios
    failed = [f"{check.claim}: {check.saw}" for check in scenario.checks if check.outcome is Outcome.FAILED]
    assert scenario.outcome is Outcome.FAILED, scenario.reason
    assert any(FOUND[defect][1] in text for text in failed), failed
    assert not found[defect].passed


async def test_a_deployment_is_driven_and_what_cannot_be_done_there_is_named() -> None:
    async with local_deployment() as deployment:
        report = await verify(
            url=deployment.gateway.url, fault_url=deployment.proxy.url, scenarios=["transitions", "cache"]
        )
    assert report.passed, [scenario.reason for scenario in report.scenarios]
    skipped = {c.claim: c.saw for s in report.scenarios for c in s.checks if c.outcome is Outcome.SKIPPED}
    claim = "a gateway that is killed and restarted while the backend is down serves the saved values"
    assert skipped[claim] == "this gateway is not ours to kill"


async def test_a_deployment_is_held_to_the_bounds_of_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "WAYS", recovery.WAYS[:1])
    async with local_deployment() as deployment:
        report = await verify(url=deployment.gateway.url, fault_url=deployment.proxy.url, scenarios=["recovery"])
    [result] = report.scenarios
    assert report.passed, result.reason
    figures = {check.claim: figure for check, figure in result.figures}
    assert list(figures) == [
        "refused: while it is out, nothing but probes",
        "refused: the first source is fresh again",
        "refused: the last of 3 stale sources is fresh again",
        "refused: the last one soon after the first",
        "refused: calls in the busiest second after",
    ]
    assert 1.2 <= figures["refused: the first source is fresh again"].bound < 1.2 + 1.5
    assert figures["refused: calls in the busiest second after"].bound == 40 + 3 * 4 + 1


async def test_a_breaker_that_an_operator_holds_could_not_test() -> None:
    async with local_deployment() as deployment:
        await deployment.gateway._ask("POST", f"/api/v1/circuit-breaker/{deployment.backend}/force-open")
        with pytest.raises(CouldNotTest, match="the breaker engine is forced open: reset it first"):
            await deployment.recover()
        await deployment.gateway.reset(deployment.backend)
        await deployment.recover()


async def test_a_dead_engine_could_not_test() -> None:
    async with local_deployment() as deployment:
        assert deployment.programs is not None
        degradation = next(scenario for scenario in SCENARIOS if scenario.name == "degradation")
        playing = asyncio.create_task(play(degradation, deployment, NoProgress()))
        await asyncio.sleep(0)
        await deployment.programs.engine.kill()
        result = await playing
    assert result.outcome is Outcome.UNTESTED
    assert result.reason.startswith("the engine has ended (signal 9)")


async def test_a_dead_gateway_could_not_test() -> None:
    async with local_deployment() as deployment:
        assert deployment.programs is not None
        await deployment.programs.gateway.kill()
        results = [await play(scenario, deployment, NoProgress()) for scenario in SCENARIOS]
    assert {result.outcome for result in results} == {Outcome.UNTESTED}
    assert results[0].reason.startswith("the gateway has ended (signal 9)")


async def test_a_dead_proxy_could_not_test() -> None:
    async with local_deployment() as deployment:
        report = await verify(url=deployment.gateway.url, fault_url="http://127.0.0.1:9")
    assert [scenario.outcome for scenario in report.scenarios] == [Outcome.UNTESTED] * len(SCENARIOS)
    assert report.scenarios[0].reason.startswith("the fault proxy at http://127.0.0.1:9 does not answer")
    assert not report.passed


async def test_a_gateway_that_does_not_start_could_not_test() -> None:
    report = await verify(gateway_command=(sys.executable, "-c", "raise SystemExit('no such gateway')"))
    assert [scenario.outcome for scenario in report.scenarios] == [Outcome.UNTESTED] * len(SCENARIOS)
    assert report.scenarios[0].reason == "the gateway has ended (exit code 1): no such gateway"


@pytest.fixture
def interrupted() -> Iterator[Program]:
    with tidegate("verify") as program:
        until(lambda: any("1. State transitions" in line for line in program.out), what=program.err)
        yield program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_verification_proves_nothing_and_leaves_nothing(
    interrupted: Program, number: signal.Signals
) -> None:
    children = Path(f"/proc/{interrupted.pid}/task/{interrupted.pid}/children").read_text().split()
    assert len(children) == 2
    interrupted.signal(number)
    assert interrupted.wait() == 1
    assert interrupted.err == ["interrupted: nothing was proved"]
    assert not any(is_running(int(child)) for child in children)


def test_a_good_gateway_passes(begun: Verification) -> None:
    """The last of this module: the verification that is looked at here went on beside the others."""
    program, path = begun
    assert (program.process.wait(timeout=300), program.wait()) == (0, 0), program.out
    assert [line for line in program.err if line] == []
    assert program.out[-1].startswith("PASSED: a gateway of our own")
    report = json.loads(path.read_text())
    assert report["passed"]
    assert [scenario["outcome"] for scenario in report["scenarios"]] == ["passed"] * len(SCENARIOS)
    assert {check["outcome"] for scenario in report["scenarios"] for check in scenario["checks"]} == {"passed"}
