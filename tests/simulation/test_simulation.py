"""Worlds in virtual time: whatever fails, no client is left in silence, told something false, or given half a story.

`make check` lives 80 worlds of one virtual hour, spread over the processors. The environment asks for more, as
`make soak` does::

    SIMULATION_SEEDS=10000 pytest tests/simulation -k every_world
    SIMULATION_SEEDS=20 SIMULATION_HOURS=168 pytest tests/simulation -k every_world

``SIMULATION_FIRST`` is the first seed, 0 if it is not said. A failure names its seeds and the command that lives one
of them again. The `simulation` package in tests/support says what is real in a world and how it is judged.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulation.world import Report, live

from tidegate.core.delivery.cohort import Cohort
from tidegate.core.delivery.history import History
from tidegate.core.delivery.outbox import Outbox
from tidegate.core.delivery.retained import Retained
from tidegate.core.instant import Instant
from tidegate.core.payload import decode
from tidegate.core.polling import outcome
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import State
from tidegate.core.polling.counting import Counting
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.held_value import HeldValue
from tidegate.core.polling.moves import Moves
from tidegate.core.polling.outcome import Verdict
from tidegate.core.polling.permit import Permit
from tidegate.core.polling.probing import Probing
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_calls import SourceCalls
from tidegate.errors import MappingFailed
from tidegate.outbound.backends import jsonrpc, rpc_messages
from tidegate.runtime.beats import Beats
from tidegate.runtime.conversation import Conversation

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "80"))
HOURS = float(os.environ.get("SIMULATION_HOURS", "1"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))

SUPPORT = Path(__file__).parent.parent / "support"


def told(reports: list[Report], hours: float) -> str:
    """The worlds that went wrong, and how to see them again."""
    return "\n".join(
        f"seed {report.seed}: PYTHONPATH=tests/support python -m simulation {report.seed} {hours:g}\n    "
        + "\n    ".join(report.violations[:5])
        for report in reports
        if report.violations
    )


@pytest.mark.real
def test_every_world_tells_its_clients_the_truth() -> None:
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        reports = list(pool.map(partial(live, hours=HOURS), range(FIRST, FIRST + SEEDS)))
    complaints = told(reports, HOURS)
    assert not complaints, f"\n{complaints}"
    assert all(report.messages > 500 and report.exchanges > 50 for report in reports), "a world where nothing happened"


@pytest.mark.parametrize("seed", range(1000, 1003))
def test_a_few_worlds_tell_their_clients_the_truth(seed: int) -> None:
    report = live(seed)
    assert not report.violations, f"\n{told([report], 1)}"


@pytest.mark.real
def test_a_world_is_the_same_each_time_and_in_each_process() -> None:
    """Whatever the hash seed is: nothing that anyone hears depends on the order of a set."""
    here = live(7, hours=0.4)
    again = live(7, hours=0.4)
    assert here.digest == again.digest
    assert live(8, hours=0.4).digest != here.digest
    elsewhere = subprocess.run(
        [sys.executable, "-m", "simulation", "7", "0.4"],
        env={**os.environ, "PYTHONPATH": str(SUPPORT), "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert here.digest in elsewhere.stdout, elsewhere.stderr


Original = Callable[..., Any]
Defect = Callable[[Original], Callable[..., Any]]


def nothing_is_called_stale(original: Original) -> Any:
    def draft(self: Freshness, *args: Any, **how: Any) -> Any:
        return msgspec.structs.replace(original(self, *args, **how), stale=False, error_code=None)

    return draft


def as_of_refreshed_by_failure(original: Original) -> Any:
    def failed(self: Freshness, request: int, **how: Any) -> Any:
        if self._held.sent is not None:
            self._held.sent = how["now"]
        return original(self, request, **how)

    return failed


def as_of_never_falls(original: Original) -> Any:
    newest: dict[HeldValue, float] = {}

    def as_of(self: HeldValue, now: Any) -> Any:
        told = original(self, now)
        if told is not None:
            told = newest[self] = max(told, newest.get(self, 0.0))
        return told

    return as_of


def what_is_held_does_not_follow_the_clock(original: Original) -> Any:
    return lambda self, now: self


def age_speaks_before_the_timeout_does(original: Original) -> Any:
    return lambda self, now: False


def an_outage_is_not_told_of_what_is_stale_already(original: Original) -> Any:
    def moved(self: Freshness, status: Any) -> bool:
        told = self._said.status
        return told is None or (told.stale, told.expired) != (status.stale, status.expired)

    return moved


def an_error_overwrites_the_value(original: Original) -> Any:
    def failed(self: Freshness, request: int, **how: Any) -> Any:
        self._held.items = dict.fromkeys(self._held.items, msgspec.Raw(b"null"))
        return original(self, request, **how)

    return failed


def time_alone_decides_nothing(original: Original) -> Any:
    return property(lambda self: None)


def a_move_is_not_told_of_the_other_sources(original: Original) -> Any:
    def take_in(self: Moves, transition: Any, now: Any, out: Decision, spoken: Any = ()) -> None:
        before = len(out.drafts)
        original(self, transition, now, out, spoken)
        del out.drafts[before : before + 1]

    return take_in


def a_failed_mapping_is_held_against_the_backend(original: Original) -> Any:
    def fault(error: BaseException, policy: Any) -> Any:
        told = original(error, policy)
        failed = isinstance(error, MappingFailed)
        return msgspec.structs.replace(told, verdict=Verdict.FAILURE) if failed else told

    return fault


def a_probe_that_blames_our_call_decides_nothing(original: Original) -> Any:
    def record(self: Breaker, permit: Permit, verdict: Verdict, **how: Any) -> Any:
        return original(self, permit, Verdict.IGNORED if verdict is Verdict.ALIVE else verdict, **how)

    return record


def after_a_probe_that_decides_nothing_all_wait_for_their_ticks(original: Original) -> Any:
    def line_up(self: Probing, breaker: Breaker, ticked: Any, *args: Any) -> Any:
        waits = breaker.view().state is State.HALF_OPEN and not ticked
        return [] if waits else original(self, breaker, ticked, *args)

    return line_up


def the_breaker_never_opens(original: Original) -> Any:
    return lambda self: None


def a_late_result_counts(original: Original) -> Any:
    return lambda self, permit, now: True


def everyone_is_a_probe(original: Original) -> Any:
    def refusal(self: Breaker, now: Instant) -> Any:
        return None if self.view().state is State.HALF_OPEN else original(self, now)

    return refusal


def the_open_breaker_is_not_asked(original: Original) -> Any:
    return lambda self, now: None


def a_source_is_asked_again_while_it_is_asked(original: Original) -> Any:
    return property(lambda self: False, lambda self, value: None)


def an_answer_with_any_id_is_taken(original: Original) -> Any:
    def of_single(body: bytearray, request_id: int) -> Any:
        return rpc_messages.outcome(decode(body, rpc_messages.SINGLE))

    return of_single


def no_snapshot_of_the_last_name(original: Original) -> Any:
    return lambda self, interest, **how: original(self, interest, **how)[:-1]


def snapshots_are_of_an_older_time(original: Original) -> Any:
    return lambda self, event_type, as_of, now: None


def what_is_skipped_is_not_told(original: Original) -> Any:
    def take_skipped(self: Outbox) -> dict[str, int]:
        original(self)
        return {}

    return take_skipped


def an_event_is_dropped(original: Original) -> Any:
    return lambda self: [event for event in original(self) if (event.seq or 0) % 40]


def a_replay_with_a_hole(original: Original) -> Any:
    return lambda self, since, newest, **_: "epoch_changed" if since.epoch != newest.epoch else None


def heartbeats_stop(original: Original) -> Any:
    return lambda self, now: None


@pytest.mark.parametrize(
    ("place", "name", "defect"),
    [
        (Freshness, "_draft", nothing_is_called_stale),
        (Freshness, "failed", as_of_refreshed_by_failure),
        (HeldValue, "_as_of", as_of_never_falls),
        (Instant, "seen_at", what_is_held_does_not_follow_the_clock),
        (Source, "_wait_for_end", age_speaks_before_the_timeout_does),
        (Freshness, "_verdict_changed", an_outage_is_not_told_of_what_is_stale_already),
        (Freshness, "failed", an_error_overwrites_the_value),
        (Freshness, "untrue_at", time_alone_decides_nothing),
        (Moves, "take_in", a_move_is_not_told_of_the_other_sources),
        (outcome, "_fault", a_failed_mapping_is_held_against_the_backend),
        (Breaker, "record", a_probe_that_blames_our_call_decides_nothing),
        (Probing, "line_up", after_a_probe_that_decides_nothing_all_wait_for_their_ticks),
        (Counting, "_reason_to_open", the_breaker_never_opens),
        (Breaker, "_counts", a_late_result_counts),
        (Breaker, "refusal", everyone_is_a_probe),
        (Breaker, "refusal", the_open_breaker_is_not_asked),
        (SourceCalls, "in_flight", a_source_is_asked_again_while_it_is_asked),
        (jsonrpc, "_of_single", an_answer_with_any_id_is_taken),
        (Conversation, "_names", no_snapshot_of_the_last_name),
        (Retained, "refresh", snapshots_are_of_an_older_time),
        (Outbox, "take_skipped", what_is_skipped_is_not_told),
        (Cohort, "take_pending", an_event_is_dropped),
        (History, "gap_reason", a_replay_with_a_hole),
        (Beats, "_beat", heartbeats_stop),
    ],
    ids=lambda it: it.__name__ if callable(it) and not isinstance(it, type) else "",
)
def test_a_gateway_with_a_defect_is_found_out(
    place: Any, name: str, defect: Defect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, defect(getattr(place, name)))
    assert any(live(seed, hours=0.5).violations for seed in range(12))
