"""Worlds whose configuration is reloaded some fifty times: nobody hears a word too many, too few, or an untrue one.

`make check` lives a few; more are lived as in `test_simulation`, by ``SIMULATION_SEEDS``. Backends fail, machines
sleep and clients come and go meanwhile. What a reload leaves as it is, goes on as in a twin of the world without any.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import msgspec
import pytest
from simulation.bus import Troubles
from simulation.reloading import ReloadRecord, live_reloads, reloaded
from simulation.reloads import draw_reloads
from simulation.world import Report

from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.replanning import Replanning
from tidegate.core.polling.schedule import Schedule
from tidegate.core.polling.source import Source
from tidegate.core.polling.telling import Telling
from tidegate.live_parts import LiveParts
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.rearranging import NewBackend

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "8"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
TRIED = 12
"""Worlds in which a defect has to show."""

SHORT_H = 0.05
"""Before the calm: a reload every three seconds and a half."""

UNSTEADY = Troubles(latency_s=0.05, in_order=False, refused=0.05, unknown=0.05, late_s=0.3, repeats=0.2, holes=0.1)


def told(reports: Iterable[Report]) -> str:
    return "\n".join(f"seed {report.seed}: {report.violations[:5]}" for report in reports if report.violations)


@pytest.mark.real
def test_every_world_with_reloads_tells_its_clients_the_truth() -> None:
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        reports = list(pool.map(reloaded, range(FIRST, FIRST + SEEDS)))
    assert not told(reports), f"\n{told(reports)}"
    assert all(report.messages > 500 and report.exchanges > 50 for report in reports), "a world where nothing happened"


@pytest.mark.parametrize("seed", [1000])
def test_a_world_with_reloads_tells_its_clients_the_truth(seed: int) -> None:
    report = reloaded(seed)
    assert not told([report]), f"\n{told([report])}"


@pytest.mark.parametrize("seed", [2000])
def test_whatever_the_bus_does_what_is_removed_ends_and_what_is_new_is_told(seed: int) -> None:
    report = reloaded(seed, hours=SHORT_H, troubles=UNSTEADY)
    assert not told([report]), f"\n{told([report])}"


@pytest.mark.parametrize("seed", [3000, 3001])
def test_a_backend_that_reloads_leave_as_it_is_goes_on_as_in_a_twin_without_them(seed: int) -> None:
    scenario = draw_reloads(seed, hours=SHORT_H, spared=True)
    report, record = live_reloads(scenario)
    _, twin = live_reloads(msgspec.structs.replace(scenario, reloads=[]))
    assert not told([report]), f"\n{told([report])}"
    assert _of_alpha(record) == _of_alpha(twin)
    assert _calls(record) == _calls(twin)


def _of_alpha(record: ReloadRecord) -> Sequence[tuple[object, ...]]:
    """What the witness heard of a backend, and when; the positions differ."""
    said = [(each.at, each.message) for each in record.log]
    return [
        (at, msgspec.structs.replace(message, seq=0))
        for at, message in said
        if message.type.startswith("alpha.") or (message.key or "").startswith("alpha")
    ]


def _calls(record: ReloadRecord) -> Sequence[tuple[object, ...]]:
    (tap,) = record.sessions["alpha"]
    return [(each.sent.mono, each.methods, each.ended) for each in tap.exchanges]


Original = Callable[..., Any]
Defect = Callable[[Original], Callable[..., Any]]


def nothing_is_told_gone(original: Original) -> Any:
    return lambda self, leaving, into: None


def a_removed_breaker_stays(original: Original) -> Any:
    return lambda self, gone, into: None


def told_gone_twice(original: Original) -> Any:
    def leaves(self: Telling, leaving: Any, into: Decision) -> None:
        original(self, leaving, into)
        into.drafts += [draft for draft in into.drafts if draft.gone]

    return leaves


def the_answer_to_another_question_stays_fresh(original: Original) -> Any:
    return lambda self, other: False


def a_late_answer_to_the_old_question_counts(original: Original) -> Any:
    def source(self: Replanning, each: SourcePlan, plan: Any, *args: Any, **how: Any) -> Source:
        before = self._parts.sources.get(each.spec.type)
        if before is None or not each.is_other_value_than(before.plan):
            made: Source = original(self, each, plan, *args, **how)
            return made
        before._freshness = before.freshness.followed_by(each.spec)
        before.follow(each, plan)
        return before

    return source


def an_unchanged_backend_begins_anew(original: Original) -> Any:
    def rearrangement(self: LiveParts, wanted: Any, backends: Any) -> Any:
        made = original(self, wanted, backends)
        anew = {name: NewBackend(self.backends[name], is_other_service=False) for name in made.unchanged}
        return msgspec.structs.replace(made, backends={**anew, **made.backends})

    return rearrangement


def who_is_added_is_not_asked(original: Original) -> Any:
    def join(self: Schedule, name: str, *, now: float, **how: Any) -> bool:
        is_new = self.interval_s(name) is None
        is_late = bool(original(self, name, now=now, **how))
        if is_new:
            self._arm(name, now + 1e6)
        return is_late and not is_new

    return join


def who_is_asked_otherwise_waits_for_its_tick(original: Original) -> Any:
    def ask_anew(self: Replanning, *args: Any) -> None:
        ask, self._lineup.ask = self._lineup.ask, lambda sources: None  # type: ignore[method-assign]
        original(self, *args)
        self._lineup.ask = ask  # type: ignore[method-assign]

    return ask_anew


def all_ticks_are_moved(original: Original) -> Any:
    def placed(self: Replanning, now: Any) -> Any:
        late = original(self, now)
        for ticks in self._lineup.schedule._sources.values():
            ticks.anchor += 0.3
        return late

    return placed


def a_position_is_left_out(original: Original) -> Any:
    def apply(self: Gateway, options: Any) -> None:
        bus: Any = self._bus
        assert isinstance(bus, MemoryBus)
        bus._seq += 1
        original(self, options)

    return apply


@pytest.mark.parametrize(
    ("place", "name", "defect", "found"),
    [
        (Telling, "leaves", nothing_is_told_gone, "and not told gone"),
        (Telling, "end_breaker", a_removed_breaker_stays, "was removed at"),
        (Telling, "leaves", told_gone_twice, "is told gone, and is not there"),
        (SourcePlan, "is_other_value_than", the_answer_to_another_question_stays_fresh, "stays fresh, though"),
        (Replanning, "_source", a_late_answer_to_the_old_question_counts, ": fresh b'"),
        (LiveParts, "_rearrangement", an_unchanged_backend_begins_anew, "a reload that left it as it was"),
        (Schedule, "join", who_is_added_is_not_asked, "not asked yet"),
        (Replanning, "_ask_anew", who_is_asked_otherwise_waits_for_its_tick, "not asked yet"),
        (Replanning, "_placed", all_ticks_are_moved, "after its tick"),
        (Gateway, "apply", a_position_is_left_out, "not what was published there"),
    ],
    ids=lambda it: it.__name__ if callable(it) and not isinstance(it, type) else "",
)
def test_a_gateway_that_reloads_carelessly_is_found_out(
    place: Any, name: str, defect: Defect, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, defect(getattr(place, name)))
    reports = (reloaded(seed, hours=SHORT_H) for seed in range(TRIED))
    assert any(found in each for report in reports for each in report.violations)
