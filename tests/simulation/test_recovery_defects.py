"""Gateways that recover by simpler rules than ours: each floods, starves or locks something, and is found out.

The simulation must say what is wrong with each within a bounded number of worlds, by the complaint that is about it.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from simulation.scenario import Fault, Scenario, draw
from simulation.world import live_through

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.accounts import Accounts
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_runs import Episode
from tidegate.core.polling.breaker_values import State
from tidegate.core.polling.catching_up import CatchingUp
from tidegate.core.polling.counting import Counting
from tidegate.core.polling.episodes import ErrorReports
from tidegate.core.polling.knocking import Knocking
from tidegate.core.polling.lineup import Lineup
from tidegate.core.polling.poking import Poke
from tidegate.core.polling.probing import Probing
from tidegate.core.polling.repetitions import Repetitions
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Turn

WORLDS = 40
HOURS = 0.35
LONG_S = 60.0

Original = Callable[..., Any]
Defect = Callable[[Original], Callable[..., Any]]


def a_knock_that_counts_as_an_opening(original: Original) -> Any:
    def open_(self: Breaker, *args: Any) -> Any:
        self._before_knock = None
        return original(self, *args)

    return open_


def knocks_without_a_pause(original: Original) -> Any:
    return lambda self, breaker, now, jitter: 0.1


def knocks_that_do_not_become_rarer(original: Original) -> Any:
    return lambda self, breaker, now, jitter: 1.0


def a_backend_that_flaps_is_probed_at_once(original: Original) -> Any:
    def after(before: Any, now: Instant, *, open_max_s: float, jitter: float) -> Any:
        return original(before, now, open_max_s=0.0, jitter=jitter)

    return after


def no_knocks(original: Original) -> Any:
    return lambda self, *args, **how: None


def a_sick_backend_is_knocked_at(original: Original) -> Any:
    def follow(self: Knocking, breakers: Any, now: Instant, draw: Any) -> None:
        breakers = list(breakers)
        for breaker in breakers:
            breaker._data.unreachable = True
        original(self, breakers, now, draw)

    return follow


def pokes_without_a_limit(original: Original) -> Any:
    def poke(self: Breaker, now: Instant) -> bool:
        self._poke = Poke()
        return bool(original(self, now))

    return poke


def catching_up_without_a_cap(original: Original) -> Any:
    def began(self: CatchingUp, turn: Turn, now: Instant) -> None:
        original(self, turn, now)
        self._next_at = now.mono

    return began


def catching_up_all_at_once(original: Original) -> Any:
    def begin(self: CatchingUp, *args: Any, **how: Any) -> None:
        original(self, *args, **how)
        self._allowed = self._connections

    return begin


def nobody_is_caught_up(original: Original) -> Any:
    return lambda self, *args, **how: None


def repetitions_without_a_budget(original: Original) -> Any:
    return lambda self, now: True


def repetitions_that_do_not_wait(original: Original) -> Any:
    def plan(self: Repetitions, failed: Any, **how: Any) -> None:
        original(self, failed, **how | {"unreachable": True})

    return plan


def no_repetitions(original: Original) -> Any:
    return lambda self, failed, **how: None


def one_broken_source_opens_the_breaker(original: Original) -> Any:
    def count(self: Counting, *args: Any, **how: Any) -> Any:
        return original(self, *args, **how | {"repeats": False})

    return count


def repetitions_say_everything_again(original: Original) -> Any:
    def ended(self: Source, *args: Any, **how: Any) -> None:
        original(self, *args, **how | {"at_tick": True})

    return ended


def an_episode_of_errors_ends_at_once(original: Original) -> Any:
    def failed(self: ErrorReports, *args: Any) -> Any:
        self._well_since = LONG_AGO
        return original(self, *args)

    return failed


def an_auth_wait_ended_by_a_recovery(original: Original) -> Any:
    def catch_up(self: Lineup, breaker: Breaker, *args: Any) -> None:
        for source in self._behind[breaker.name]:
            source.calls.end_wait()
        original(self, breaker, *args)

    return catch_up


def an_auth_wait_ended_by_the_same_secret(original: Original) -> Any:
    def read(self: Accounts, secret: bytes, now: Instant) -> Any:
        return self._try([source for source in self._refused if source.calls.waits(now)])

    return read


def an_auth_wait_that_a_new_secret_does_not_end(original: Original) -> Any:
    return lambda self, secret, now: None


def a_tick_skipped_for_ever(original: Original) -> Any:
    return lambda self, source, now: source.calls.last_off_grid > LONG_AGO


def no_tick_is_skipped(original: Original) -> Any:
    return lambda self, source, now: source in self._catching_up.waiting


def with_fault(*faults: Fault) -> Callable[[Scenario], bool]:
    """Worlds in which a backend has one of these for long enough."""
    return lambda scenario: any(
        phase.fault in faults and phase.end - phase.start > LONG_S
        for fate in scenario.fates.values()
        for phase in fate.phases
    )


def with_a_crowd(scenario: Scenario) -> bool:
    """Worlds with a backend of many sources."""
    return "crowd" in scenario.fates


def any_world(scenario: Scenario) -> bool:
    """Every world."""
    return True


IN: dict[Defect, Callable[[Scenario], bool]] = {
    a_knock_that_counts_as_an_opening: with_fault(Fault.NO_ENTRY),
    a_backend_that_flaps_is_probed_at_once: with_fault(Fault.BLINK, Fault.FLAP),
    catching_up_without_a_cap: with_a_crowd,
    catching_up_all_at_once: with_a_crowd,
    an_auth_wait_ended_by_a_recovery: with_fault(Fault.EXPIRED),
}
"""In which worlds a defect shows, if not in most."""


@pytest.mark.parametrize(
    ("place", "name", "defect", "found"),
    [
        (Breaker, "_open", a_knock_that_counts_as_an_opening, "as before the knock"),
        (Knocking, "_gap_s", knocks_without_a_pause, "s too early"),
        (Knocking, "_gap_s", knocks_that_do_not_become_rarer, "s too early"),
        (Episode, "after", a_backend_that_flaps_is_probed_at_once, "of a backend that flaps"),
        (Probing, "knock", no_knocks, "not fresh by then"),
        (Knocking, "follow", a_sick_backend_is_knocked_at, "a knock, though"),
        (Breaker, "poke", pokes_without_a_limit, "nobody poked since"),
        (CatchingUp, "began", catching_up_without_a_cap, "calls of catching up in a second"),
        (CatchingUp, "begin", catching_up_all_at_once, "calls of catching up at once"),
        (Lineup, "catch_up", nobody_is_caught_up, "not fresh by then"),
        (Repetitions, "begin", repetitions_without_a_budget, "another repetition of its backend|beside the repetition"),
        (Repetitions, "plan", repetitions_that_do_not_wait, "s after failure"),
        (Repetitions, "plan", no_repetitions, "not fresh by then"),
        (Counting, "count", one_broken_source_opens_the_breaker, "nothing made it|failures, expected"),
        (Source, "ended", repetitions_say_everything_again, "times since"),
        (ErrorReports, "failed", an_episode_of_errors_ends_at_once, "after the last report"),
        (Lineup, "catch_up", an_auth_wait_ended_by_a_recovery, "after the same secret was refused"),
        (Accounts, "read", an_auth_wait_ended_by_the_same_secret, "after the same secret was refused"),
        (Lineup, "_is_asked_soon", a_tick_skipped_for_ever, "not asked since"),
        (Lineup, "_is_asked_soon", no_tick_is_skipped, "after a call off the grid"),
    ],
    ids=lambda it: it.__name__ if callable(it) and not isinstance(it, type) else "",
)
def test_a_gateway_that_recovers_by_simpler_rules_is_found_out(
    place: Any, name: str, defect: Defect, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, defect(getattr(place, name)))
    assert is_found(found, IN.get(defect, any_world))


def test_a_gateway_that_repeats_under_a_hold_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold refuses ticks and probes, but whoever is to be asked again is."""
    refusal, askable = Breaker.refusal, Lineup._askable
    repeating = False

    def refuses(self: Breaker, now: Instant, **how: Any) -> Any:
        return None if repeating and self.view().state is State.CLOSED else refusal(self, now, **how)

    def asks(self: Lineup, sources: Any, now: Instant) -> Sequence[Source]:
        nonlocal repeating
        repeating = True
        return askable(self, sources, now)

    monkeypatch.setattr(Breaker, "refusal", refuses)
    monkeypatch.setattr(Lineup, "_askable", asks)
    monkeypatch.setattr(Lineup, "hold", lambda self: None)
    assert is_found("before the end of the hold", any_world)


def is_found(complaint: str, wanted: Callable[[Scenario], bool]) -> bool:
    """Whether any of the first `WORLDS` that are `wanted` complains of what is planted."""
    scenarios = filter(wanted, (draw(seed, hours=HOURS) for seed in itertools.count()))
    reports = map(live_through, itertools.islice(scenarios, WORLDS))
    return any(part in each for report in reports for each in report.violations for part in complaint.split("|"))
