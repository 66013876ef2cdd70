"""Runs the scenarios, one after the other, against one deployment."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tidegate.verify.deployment import GATEWAY, Deployment, local_deployment, remote_deployment
from tidegate.verify.observer import NotSeen, StreamEnded
from tidegate.verify.obstacles import CheckFailed, CouldNotTest
from tidegate.verify.report import Check, Outcome, Report, ScenarioResult, verdict
from tidegate.verify.scenarios import SCENARIOS, Scenario
from tidegate.verify.trial import Progress, Trial

ALL: Final = tuple(scenario.name for scenario in SCENARIOS)


class NoProgress:
    """A `Progress` that shows nothing."""

    def preparing(self, what: str) -> None: ...

    def began(self, title: str, promise: str) -> None: ...

    def checked(self, check: Check) -> None: ...

    def ended(self, result: ScenarioResult) -> None: ...


async def verify(
    *,
    url: str | None = None,
    fault_url: str | None = None,
    token: str | None = None,
    scenarios: Sequence[str] = ALL,
    gateway_command: Sequence[str] = GATEWAY,
    progress: Progress | None = None,
) -> Report:
    """Run `scenarios` and return the report. Never raises because of what is wrong with the system under test.

    With `url` and `fault_url` (the control API of the fault proxy), a running deployment is tested, with `token` if it
    needs one. Without them, engine, fault proxy and gateway are started on free ports, the gateway as `gateway_command`
    with ``--config FILE``. Cancellation ends all started programs.
    """
    progress = progress or NoProgress()
    chosen = [scenario for scenario in SCENARIOS if scenario.name in scenarios]
    began, started = time.time(), time.monotonic()
    target = url or "a gateway of our own"
    progress.preparing(target)
    results: list[ScenarioResult] = []
    try:
        async with _deployment(url, fault_url, token, gateway_command) as deployment:
            results = [await play(scenario, deployment, progress) for scenario in chosen]
    except CouldNotTest as error:
        results += [_untested(scenario, str(error), progress) for scenario in chosen[len(results) :]]
    return Report(
        target=target,
        owns_gateway=url is None,
        began=began,
        elapsed_s=time.monotonic() - started,
        scenarios=results,
    )


async def play(scenario: Scenario, deployment: Deployment, progress: Progress) -> ScenarioResult:
    """Run one scenario. It starts and ends with a healthy backend."""
    began = time.time()
    progress.began(scenario.title, scenario.promise)
    trial = Trial(deployment, progress)
    obstacle: str | None = None
    try:
        await deployment.recover_fully()
        await scenario.play(trial)
    except CheckFailed:
        pass
    except (NotSeen, StreamEnded) as error:
        trial.check("clients are told what they need to know", False, str(error))
    except CouldNotTest as error:
        obstacle = str(error)
    finally:
        with contextlib.suppress(CouldNotTest):
            await deployment.heal()
    outcome, reason = verdict(trial.checks, obstacle=obstacle, death=await deployment.death())
    return _ended(scenario, outcome, reason, began=began, trial=trial, progress=progress)


@asynccontextmanager
async def _deployment(
    url: str | None, fault_url: str | None, token: str | None, gateway_command: Sequence[str]
) -> AsyncIterator[Deployment]:
    if url is None or fault_url is None:
        async with local_deployment(gateway_command=gateway_command) as deployment:
            yield deployment
    else:
        async with remote_deployment(url=url, fault_url=fault_url, token=token) as deployment:
            yield deployment


def _untested(scenario: Scenario, reason: str, progress: Progress) -> ScenarioResult:
    outcome, reason = verdict([], obstacle=reason)
    return _ended(scenario, outcome, reason, began=time.time(), trial=None, progress=progress)


def _ended(
    scenario: Scenario, outcome: Outcome, reason: str, *, began: float, trial: Trial | None, progress: Progress
) -> ScenarioResult:
    result = ScenarioResult(
        name=scenario.name,
        title=scenario.title,
        promise=scenario.promise,
        outcome=outcome,
        reason=reason,
        began=began,
        elapsed_s=0.0 if trial is None else trial.elapsed_s,
        checks=[] if trial is None else trial.checks,
    )
    progress.ended(result)
    return result
