"""One outage of scenario 4: what was known when the backend came back, and the checks of what followed."""

import bisect
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tidegate.verify.audit import most_at_once
from tidegate.verify.bounds import CallLatency, Outage, busiest_calls, catching_up_s, first_fresh_s
from tidegate.verify.endpoints import SourceStatus
from tidegate.verify.faultproxy import AnyFault, CallRecord
from tidegate.verify.frames import Move, read_move
from tidegate.verify.observer import Observer
from tidegate.verify.report import Figure
from tidegate.verify.trial import SHOWN, Trial

BUSY_S: Final = 1.0
"""How much later than the bound it may be, since the machine may be busy."""

HTTP_OK: Final = 200


class Way(msgspec.Struct, frozen=True):
    """A way in which a backend can be out, and its name in the report."""

    name: str
    fault: AnyFault
    outage: Outage


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """What was known when the backend came back. `at` is monotonic time, `mark` the index of the client's next message.

    `began` is the index of the client's first message of the outage.
    `stale` and `others` are the sources that were stale then, and those that were not. `opened` is the move from
    closed to open, which came `open_for_s` earlier. `retry_in_s` is the rest of the open period, `call` the number of
    the newest call.
    """

    way: Way
    at: float
    began: int
    mark: int
    stale: Sequence[SourceStatus]
    others: Sequence[SourceStatus]
    opened: Move
    open_for_s: float
    retry_in_s: float
    call: int


def bounds(trial: Trial, back: Return, latency: CallLatency) -> tuple[float, float]:
    """Return the seconds after the return by which the first and the last source must be fresh."""
    first_s = first_fresh_s(
        back.way.outage,
        trial.deployment.rules,
        latency=latency,
        opening=back.opened.open_count,
        open_for_s=back.open_for_s,
    )
    intervals_s = [source.interval_s for source in (*back.stale, *back.others)]
    return first_s, first_s + catching_up_s(len(back.stale), intervals_s, latency=latency)


def check_times(trial: Trial, back: Return, fresh: Mapping[str, float], calls: Sequence[CallRecord]) -> None:
    """Hold the first and the last source to their bounds. `fresh` is when each was fresh, in seconds after the return.

    `calls` are those since the return.
    """
    latency = _latency(calls)
    first_bound_s, last_bound_s = bounds(trial, back, latency)
    late = [source.type for source in back.stale if source.type not in fresh]
    first_s = min(fresh.values(), default=None)
    last_s = max(fresh.values()) if fresh and not late else None
    name, allowed = back.way.name, f"and {BUSY_S:g} s for a busy machine"
    trial.measure(
        f"{name}: the first source is fresh again",
        Figure(first_s, first_bound_s, "s"),
        tolerance=BUSY_S,
        saw=f"{allowed}; it had been open for {back.open_for_s:.1f} s, a call takes {latency}",
    )
    missing = (
        f"not fresh: {', '.join(late[:SHOWN])}, {len(late)} in all"
        if late
        else f"{len(back.others)} had not to be asked"
    )
    trial.measure(
        f"{name}: the last of {len(back.stale)} stale sources is fresh again",
        Figure(last_s, last_bound_s, "s"),
        tolerance=BUSY_S,
        saw=f"{allowed}; {missing}",
    )
    trial.measure(
        f"{name}: the last one soon after the first",
        Figure(None if last_s is None or first_s is None else last_s - first_s, last_bound_s - first_bound_s, "s"),
        tolerance=BUSY_S,
        saw=allowed,
    )


def check_rate(trial: Trial, back: Return, calls: Sequence[CallRecord]) -> None:
    """Hold the busiest second after the return to its bound."""
    most = busiest_calls(
        [source.interval_s for source in back.stale],
        [source.interval_s for source in back.others],
        half_open_successes=trial.deployment.rules.half_open_successes,
    )
    figure = Figure(busiest_second([call.came_mono for call in calls]), most, "calls")
    trial.measure(f"{back.way.name}: calls in the busiest second after", figure, saw=f"{len(calls)} calls in all")


def busiest_second(moments: Sequence[float]) -> int:
    """Return the largest number of `moments`, in seconds and in order, that are less than a second apart."""
    return max((bisect.bisect_left(moments, first + 1) - n for n, first in enumerate(moments)), default=0)


def check_moves(trial: Trial, watcher: Observer, back: Return) -> None:
    """Check that the breaker closed once, and did not wait for `retry_at` if the backend could be reached before."""
    moves = [read_move(frame) for frame in watcher.moves(trial.breaker, after=back.mark)]
    saw = " → ".join(f"{move.state} ({move.reason})" for move in moves) or "no move"
    is_over = sum(move.state == "closed" for move in moves) == 1 and moves[-1].state == "closed"
    trial.check(f"{back.way.name}: exactly one closed, and no move after it", is_over, saw)
    if back.way.outage is Outage.SICK:
        return
    soon_s, _ = bounds(trial, back, CallLatency())
    found = any(move.reason == "reachable" for move in moves)
    claim = f"{back.way.name}: it is probed as soon as it can be reached, or at retry_at if that comes first"
    trial.check(claim, found or back.retry_in_s <= soon_s, f"{saw}; retry_at was {back.retry_in_s:.2f} s away")


def check_single_flight(trial: Trial, way: Way, calls: Sequence[CallRecord]) -> None:
    """Check how many calls were in flight at once, of each method as many as sources make it.

    Which source of a running deployment makes which call is not known, only the number of its sources.
    """
    settings, methods = trial.settings, {call.methods for call in calls}
    limit = {name: len(trial.sources) for name in methods}
    if settings is not None:
        limit = {name: sum((method,) == name for method in settings.methods.values()) for name in methods}
    most = {name: most_at_once(calls, methods=name) for name in methods}
    wrong = [f"{'+'.join(name)}: {count} at once" for name, count in most.items() if count > limit[name]]
    saw = f"{len(calls)} calls of {len(most)} methods"
    trial.check_none(f"{way.name}: at most one call in flight per source", wrong, saw)


def _latency(calls: Sequence[CallRecord]) -> CallLatency:
    """Return how long the good ones of `calls` took, as the proxy saw it."""
    good = [call for call in calls if call.status == HTTP_OK and not call.faults]
    took = [call.ended_mono - call.came_mono for call in good if call.ended_mono is not None]
    return CallLatency(max(took), statistics.fmean(took)) if took else CallLatency()
