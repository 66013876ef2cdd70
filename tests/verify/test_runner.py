"""What a scenario comes to, however it ends. Its deployment is made up."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tidegate.verify.deployment import Deployment
from tidegate.verify.observer import NotSeen, StreamEnded
from tidegate.verify.obstacles import CheckFailed, CouldNotTest
from tidegate.verify.report import Figure, Outcome
from tidegate.verify.runner import ALL, NoProgress, play, verify
from tidegate.verify.scenarios import Scenario
from tidegate.verify.trial import Trial


class MadeUp:
    """A deployment that does as it is told; `told` is what was asked of it."""

    def __init__(self, *, trouble: str | None = None, dead: str | None = None) -> None:
        self.gateway = self.proxy = self.programs = self.settings = None
        self.backend, self.sources, self.patience_s = "engine", ("a.b",), 1.0
        self.told: list[str] = []
        self._trouble = trouble
        self._dead = dead

    async def recover_fully(self) -> None:
        self.told.append("recover")
        if self._trouble:
            raise CouldNotTest(self._trouble)

    async def heal(self) -> None:
        self.told.append("heal")
        if self._dead:
            raise CouldNotTest(self._dead)

    async def death(self) -> str | None:
        return self._dead


def scenario(*acts: Any) -> Scenario:
    """One that notes each outcome of `acts` and raises each error."""

    async def playing(trial: Trial) -> None:
        for act in acts:
            if isinstance(act, BaseException):
                raise act
            trial.check("c", act, "s")

    return Scenario(name="n", title="t", promise="p", play=playing)


@pytest.mark.parametrize(
    ("acts", "outcome", "reason"),
    [
        ((True,), Outcome.PASSED, ""),
        ((True, False, True), Outcome.FAILED, "c: s"),
        ((), Outcome.UNTESTED, "nothing could be checked"),
        ((False, CheckFailed("c")), Outcome.FAILED, "c: s"),
        ((True, NotSeen("not seen")), Outcome.FAILED, "clients are told what they need to know: not seen"),
        ((True, StreamEnded("1006")), Outcome.FAILED, "clients are told what they need to know: 1006"),
        ((True, CouldNotTest("the proxy is gone")), Outcome.UNTESTED, "the proxy is gone"),
    ],
)
async def test_a_scenario_ends_with_an_outcome(acts: tuple[Any, ...], outcome: Outcome, reason: str) -> None:
    deployment = MadeUp()
    result = await play(scenario(*acts), cast("Deployment", deployment), NoProgress())
    assert (result.outcome, result.reason) == (outcome, reason)
    assert deployment.told == ["recover", "heal"]


async def test_what_does_not_become_healthy_is_not_judged() -> None:
    result = await play(scenario(True), cast("Deployment", MadeUp(trouble="stale")), NoProgress())
    assert (result.outcome, result.reason, result.checks) == (Outcome.UNTESTED, "stale", [])


@pytest.mark.parametrize("seen", [True, False])
async def test_what_was_seen_while_somebody_was_dead_says_nothing(seen: bool) -> None:
    result = await play(scenario(seen), cast("Deployment", MadeUp(dead="the engine has ended")), NoProgress())
    assert (result.outcome, result.reason) == (Outcome.UNTESTED, "the engine has ended")


async def test_a_mistake_of_our_own_is_no_verdict() -> None:
    deployment = MadeUp()
    with pytest.raises(ZeroDivisionError):
        await play(scenario(ZeroDivisionError()), cast("Deployment", deployment), NoProgress())
    assert deployment.told == ["recover", "heal"]


async def test_nobody_there_could_not_test_any_scenario() -> None:
    report = await verify(url="http://127.0.0.1:9", fault_url="http://127.0.0.1:9", scenarios=ALL[:2])
    assert [(found.name, found.outcome) for found in report.scenarios] == [(name, Outcome.UNTESTED) for name in ALL[:2]]
    assert not report.passed


async def test_each_check_knows_when_and_whether_it_held() -> None:
    trial = Trial(cast("Deployment", MadeUp()), NoProgress())
    trial.check_none("nothing wrong", [], "all well")
    trial.check_none("much wrong", ["a", "b", "c", "d", "e"], "all well")
    trial.skip("not here", "why")
    with pytest.raises(CheckFailed):
        trial.require("needed", False, "gone")
    found = [SimpleNamespace(claim=c.claim, outcome=c.outcome.value, saw=c.saw) for c in trial.checks]
    assert found == [
        SimpleNamespace(claim="nothing wrong", outcome="passed", saw="all well"),
        SimpleNamespace(claim="much wrong", outcome="failed", saw="a; b; c (and 2 more)"),
        SimpleNamespace(claim="not here", outcome="skipped", saw="why"),
        SimpleNamespace(claim="needed", outcome="failed", saw="gone"),
    ]
    assert all(0 <= check.at_s <= trial.elapsed_s for check in trial.checks)


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [(1.0, Outcome.PASSED), (1.5, Outcome.PASSED), (1.6, Outcome.FAILED), (None, Outcome.FAILED)],
)
async def test_what_was_measured_may_be_a_little_beyond_its_bound(measured: float | None, outcome: Outcome) -> None:
    trial = Trial(cast("Deployment", MadeUp()), NoProgress())
    trial.measure("c", Figure(measured, 1.0, "s"), saw="why", tolerance=0.5)
    [check] = trial.checks
    assert (check.outcome, check.figure) == (outcome, Figure(measured, 1.0, "s"))
    assert check.saw == f"{check.figure}; why"


async def test_a_trial_of_another_deployment_records_its_checks_here() -> None:
    trial = Trial(cast("Deployment", MadeUp()), NoProgress())
    other = MadeUp()
    other.backend = "disks"
    at = trial.at(cast("Deployment", other))
    at.check("c", True, "s")
    assert (at.breaker, [check.claim for check in trial.checks]) == ("disks", ["c"])
