"""Worlds whose bus is slow, fails, repeats itself and has holes: what is told is still in the order of decisions.

Each judge is also shown what it has to find: a gateway in which that order, or the bus's answer, counts for nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from simulation.bus import Troubles
from simulation.world import Report, live

from tidegate.core.events import Draft, Position
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.source_values import Told, Update
from tidegate.errors import BusError
from tidegate.runtime.lanes import Lane, encoded

HOURS = 0.3

REPEATING = Troubles(repeats=0.3, holes=0.2)
OVERTAKING = Troubles(latency_s=0.05, in_order=False)
REFUSING = Troubles(refused=0.2)
SILENT = Troubles(latency_s=0.05, unknown=0.2, late_s=0.3)
EVERYTHING = Troubles(latency_s=0.05, in_order=False, refused=0.05, unknown=0.05, late_s=0.3, repeats=0.2, holes=0.1)


def told(reports: Sequence[Report]) -> str:
    return "\n".join(f"seed {report.seed}: {report.violations[:3]}" for report in reports if report.violations)


@pytest.mark.parametrize(
    "troubles",
    [REPEATING, OVERTAKING, REFUSING, SILENT, EVERYTHING],
    ids=["repeating", "overtaking", "refusing", "silent", "everything"],
)
def test_what_is_told_is_in_order_and_nothing_is_lost(troubles: Troubles) -> None:
    reports = [live(seed, hours=HOURS, troubles=troubles) for seed in range(2)]
    assert not told(reports), f"\n{told(reports)}"
    assert all(report.messages > 100 for report in reports), "a world where nothing happened"


def test_a_world_with_an_unsteady_bus_is_the_same_each_time() -> None:
    first, again = (live(3, hours=0.2, troubles=EVERYTHING) for _ in range(2))
    assert first.digest == again.digest


Submit = Callable[..., None]


def past_the_lane(
    self: Lane, drafts: Sequence[Draft], *, taken: Callable[[], None], refused: Callable[[BusError], None]
) -> None:
    """Each is handed over at once, whatever is in flight."""
    if not drafts:
        taken()
        return

    def conclude(outcome: asyncio.Future[Position]) -> None:
        error = outcome.exception()
        if isinstance(error, BusError):
            refused(error)
        else:
            taken()

    self._start(encoded(drafts, self._clock.now())).outcome.add_done_callback(conclude)


def whatever_became_of_it(
    self: Lane, drafts: Sequence[Draft], *, taken: Callable[[], None], refused: Callable[[BusError], None]
) -> None:
    """What was handed over counts as told: the source is never told that it was refused."""
    del refused
    SUBMIT(self, drafts, taken=taken, refused=lambda _: taken())


SUBMIT = Lane.submit


@pytest.mark.parametrize(
    ("defect", "troubles", "found"),
    [
        (past_the_lane, OVERTAKING, "said fresh while its breaker is|moved from"),
        (whatever_became_of_it, REFUSING, "was told, and it is"),
    ],
    ids=["publishing past the lane", "an answer that counts for nothing"],
)
def test_a_gateway_that_does_not_keep_to_it_is_found(
    defect: Submit, troubles: Troubles, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lane, "submit", defect)
    reports = (live(seed, hours=HOURS, troubles=troubles) for seed in range(6))
    assert any(part in each for report in reports for each in report.violations for part in found.split("|"))


def test_a_gateway_that_loses_what_was_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is published or not: what is held counts as said."""
    publish_owed = Freshness.publish_owed

    def forgetful(self: Freshness, *args: Any) -> Update:
        self._said = Told(self._said.status, self._held.items)
        return publish_owed(self, *args)

    monkeypatch.setattr(Freshness, "publish_owed", forgetful)
    reports = (live(seed, hours=HOURS, troubles=REFUSING) for seed in range(6))
    assert any("to a new client: " in each for report in reports for each in report.violations)
