"""Scenario 4: the backend recovers, and the gateway recovers without any action, as soon as its settings promise."""

import asyncio
import bisect
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from tidegate.verify.audit import most_at_once
from tidegate.verify.bounds import Latency, Outage, busiest_calls, catching_up_s, first_fresh_s
from tidegate.verify.deployment import local_deployment
from tidegate.verify.endpoints import SourceStatus
from tidegate.verify.faultproxy import AnyFault, CallRecord, Fault
from tidegate.verify.frames import Frame, Move, read_move
from tidegate.verify.observer import NotSeen, Observer
from tidegate.verify.report import Figure
from tidegate.verify.settings import MIXED
from tidegate.verify.trial import SHOWN, Trial

INTERVALS_HELD: Final = 2.5
HELD_S: Final = 5.0
"""How many intervals to hold a probe, so that every source is due at least twice, and how long at most."""

PROBES: Final = 2
"""How many probes must fail before the backend comes back."""

WATCHED_S: Final = 1.0
"""How long to watch after everything is fresh again: nothing else may happen."""

BUSY_S: Final = 1.0
"""How much later than the bound it may be, since the machine may be busy."""

OVERDUE_S: Final = 10.0
"""How much longer than the bound to wait, to be able to say how late it was."""

HTTP_OK: Final = 200

LAST: Final = "~"
"""Greater than every time on the wire: a source that was never stale is not waited for."""


class Way(msgspec.Struct, frozen=True):
    """A way in which a backend can be out, and its name in the report."""

    name: str
    fault: AnyFault
    outage: Outage


WAYS: Final = (
    Way("refused", Fault.down(), Outage.REFUSED),
    Way("connecting unanswered", Fault.unanswered(), Outage.UNANSWERED),
    Way("hang", Fault.black_hole(), Outage.SICK),
    Way("HTTP 500", Fault.status(code=500), Outage.SICK),
)


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """What was known when the backend came back. `at` is monotonic time, `mark` the index of the client's next message.

    `stale` and `others` are the sources that were stale then, and those that were not. `opened` is the move from
    closed to open, which came `open_for_s` earlier. `retry_in_s` is the rest of the open period, `call` the number of
    the newest call.
    """

    way: Way
    at: float
    mark: int
    stale: Sequence[SourceStatus]
    others: Sequence[SourceStatus]
    opened: Move
    open_for_s: float
    retry_in_s: float
    call: int


async def play(trial: Trial) -> None:
    async with trial.watching("a client of everything") as watcher:
        await _one_probe_at_a_time(trial, watcher)
    async with _with_slow_sources(trial) as measured, measured.watching("a client of all sources") as watcher:
        for way in WAYS:
            await _is_back_at_once(measured, watcher, way)


@asynccontextmanager
async def _with_slow_sources(trial: Trial) -> AsyncIterator[Trial]:
    """Start a gateway with sources that are polled once a minute. A running deployment is taken as it is."""
    programs = trial.deployment.programs
    if programs is None:
        yield trial
    else:
        async with local_deployment(gateway_command=programs.gateway_command, settings=MIXED) as deployment:
            yield trial.at(deployment)


async def _is_back_at_once(trial: Trial, watcher: Observer, way: Way) -> None:
    """Take the backend away until a few probes have failed. Measure how soon everything is fresh after its return."""
    await trial.deployment.recover()
    back = await _away_and_back(trial, watcher, way)
    fresh = await _fresh_again(trial, watcher, back)
    await asyncio.sleep(WATCHED_S)
    calls = await trial.proxy.calls(after=back.call)
    _check_times(trial, back, fresh, calls)
    _check_rate(trial, back, calls)
    _check_moves(trial, watcher, back)
    _check_single_flight(trial, way, calls)


async def _away_and_back(trial: Trial, watcher: Observer, way: Way) -> Return:
    mark, before = watcher.mark, await trial.proxy.last_call()
    await trial.proxy.set(way.fault)
    await trial.gateway.poll(trial.deployment.backend)  # every source notices now, if our token may ask
    opening, opened = await trial.see_move(f"{way.name}: the breaker opens", watcher, "open", after=mark)
    first = last = await trial.see_probe_fail(watcher, opening)
    call = await trial.proxy.last_call()
    for _ in range(PROBES - 1):
        last = await trial.see_probe_fail(watcher, last)
    await _check_calls_while_out(trial, watcher, way, first, before=before, call=call)
    status = await trial.gateway.status()
    sources = [source for source in status.sources if source.type in trial.sources]
    mark, call, at = watcher.mark, await trial.proxy.last_call(), time.monotonic()
    await trial.proxy.clear(type(way.fault))
    return Return(
        way=way,
        at=at,
        mark=mark,
        stale=[source for source in sources if source.stale],
        others=[source for source in sources if not source.stale],
        opened=opened,
        open_for_s=at - watcher.came_at(opening),
        retry_in_s=read_move(last).period_s - (at - watcher.came_at(last)),
        call=call,
    )


async def _check_calls_while_out(
    trial: Trial, watcher: Observer, way: Way, first: Frame, *, before: int, call: int
) -> None:
    """Check the calls since the `first` probe had failed: then all calls of the closed breaker were over."""
    claim = f"{way.name}: while it is out, nothing but probes"
    status = await trial.gateway.status()
    if any(breaker.name.startswith(f"{trial.breaker}/") for breaker in status.breakers):
        trial.skip(claim, "which calls are those of sources with a breaker of their own is not public")
        return
    calls = await trial.proxy.calls(after=before)
    since = [record for record in calls if record.number > call]
    moves = watcher.moves(trial.breaker, after=watcher.after(first))
    probes = sum(read_move(frame).state == "half_open" for frame in moves)
    saw = f"{len(calls)} calls during the whole outage; since the first probe at most {most_at_once(since)} at once"
    trial.measure(claim, Figure(len(since), probes, "calls"), saw=saw)
    trial.check(f"{way.name}: one probe at a time", most_at_once(since) <= 1, saw)


async def _fresh_again(trial: Trial, watcher: Observer, back: Return) -> Mapping[str, float]:
    """Return when a client heard that each source that was stale is fresh, in seconds since the backend's return.

    A call that was sent during the outage brings no good answer, so data with a newer `as_of` was asked for after the
    return. Sources that take too long are missing.
    """
    known = {source.type: source.as_of or "" for source in back.stale}
    fresh: dict[str, float] = {}
    seen = back.mark

    def are_all_fresh() -> bool:
        nonlocal seen
        for frame, came in zip(watcher.frames[seen:], watcher.came[seen:], strict=True):
            if frame.stale is False and (frame.as_of or "") > known.get(frame.type, LAST):
                fresh.setdefault(frame.type, came - back.at)
        seen = watcher.mark
        return len(fresh) == len(known)

    _, last_s = _bounds(trial, back, Latency())
    with contextlib.suppress(NotSeen):
        await watcher.when(are_all_fresh, within_s=last_s + BUSY_S + OVERDUE_S)
    return fresh


def _bounds(trial: Trial, back: Return, latency: Latency) -> tuple[float, float]:
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


def _check_times(trial: Trial, back: Return, fresh: Mapping[str, float], calls: Sequence[CallRecord]) -> None:
    latency = _latency(calls)
    first_bound_s, last_bound_s = _bounds(trial, back, latency)
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
    missing = f"not fresh: {', '.join(late[:SHOWN])}, {len(late)} in all" if late else f"{len(back.others)} never stale"
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


def _latency(calls: Sequence[CallRecord]) -> Latency:
    """Return how long the good ones of `calls` took, as the proxy saw it."""
    good = [call for call in calls if call.status == HTTP_OK and not call.faults]
    took = [call.ended_mono - call.came_mono for call in good if call.ended_mono is not None]
    return Latency(max(took), statistics.fmean(took)) if took else Latency()


def _check_rate(trial: Trial, back: Return, calls: Sequence[CallRecord]) -> None:
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


def _check_moves(trial: Trial, watcher: Observer, back: Return) -> None:
    moves = [read_move(frame) for frame in watcher.moves(trial.breaker, after=back.mark)]
    saw = " → ".join(f"{move.state} ({move.reason})" for move in moves) or "no move"
    is_over = sum(move.state == "closed" for move in moves) == 1 and moves[-1].state == "closed"
    trial.check(f"{back.way.name}: exactly one closed, and no move after it", is_over, saw)
    soon_s, _ = _bounds(trial, back, Latency())
    if back.way.outage is not Outage.SICK and soon_s < back.retry_in_s:
        found = any(move.reason == "reachable" for move in moves)
        claim = f"{back.way.name}: it is probed as soon as it can be reached"
        trial.check(claim, found, f"{saw}; retry_at was {back.retry_in_s:.2f} s away")


def _check_single_flight(trial: Trial, way: Way, calls: Sequence[CallRecord]) -> None:
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


async def _one_probe_at_a_time(trial: Trial, watcher: Observer) -> None:
    """Hold the answer to the probe until the other sources are due. Check that none of them calls the backend."""
    mark = watcher.mark
    await trial.proxy.set(Fault.down())
    opening, _ = await trial.see_move("the backend is gone, it opens", watcher, "open", after=mark)
    opening = await trial.see_probe_fail(watcher, opening)
    mark, call = watcher.after(opening), await trial.proxy.last_call()
    await trial.proxy.set(Fault.late())
    await trial.proxy.clear(Fault.down)
    await trial.see_held(1)
    held_s = min(INTERVALS_HELD * trial.deployment.interval_s, HELD_S)
    await asyncio.sleep(held_s)
    calls = await trial.proxy.calls(after=call)
    probes = [f for f in watcher.moves(trial.breaker, after=mark) if read_move(f).state == "half_open"]
    trial.check(
        f"while the probe is under way nobody else calls, for {held_s:g} s",
        1 <= len(calls) <= len(probes) and most_at_once(calls) == 1,
        f"{len(calls)} calls, {len(probes)} probes, at most {most_at_once(calls)} at once",
    )
    await trial.proxy.clear(Fault.late)
    await trial.proxy.release()
    await trial.see_move("the probe succeeds, it closes", watcher, "closed", after=mark)
    await trial.see_fresh("every source is fresh", watcher, after=mark)
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    trial.check("again exactly one closed", moves.count("closed") == 1, " → ".join(["open", *moves]))
