"""Scenario 4: the backend recovers, and the gateway recovers without any action, as soon as its settings promise."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from tidegate.verify.audit import most_at_once
from tidegate.verify.bounds import CallLatency, Outage
from tidegate.verify.deployment import local_deployment
from tidegate.verify.endpoints import POLL_S
from tidegate.verify.faultproxy import Fault
from tidegate.verify.frames import Frame, read_move
from tidegate.verify.observer import NotSeen, Observer
from tidegate.verify.report import Figure
from tidegate.verify.scenarios.outage import (
    BUSY_S,
    Return,
    Way,
    bounds,
    check_moves,
    check_rate,
    check_single_flight,
    check_times,
)
from tidegate.verify.settings import MIXED
from tidegate.verify.trial import Trial

INTERVALS_HELD: Final = 2.5
HELD_S: Final = 5.0
"""How many intervals to hold a probe, so that every source is due at least twice, and how long at most."""

PROBES: Final = 2
"""How many probes must fail before the backend comes back."""

PATIENCE_S: Final = 10.0
"""How long to wait for the answers to all polls that we have asked for."""

WATCHED_S: Final = 1.0
"""How long to watch after everything is fresh again: nothing else may happen."""

OVERDUE_S: Final = 10.0
"""How much longer than the bound to wait, to be able to say how late it was."""

LAST: Final = "~"
"""Greater than every time on the wire: a source that was never stale is not waited for."""


WAYS: Final = (
    Way("refused", Fault.down(), Outage.REFUSED),
    Way("connecting unanswered", Fault.unanswered(), Outage.UNANSWERED),
    Way("hang", Fault.black_hole(), Outage.SICK),
    Way("HTTP 500", Fault.status(code=500), Outage.SICK),
)


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
    await _recovered(trial)
    back = await _away_and_back(trial, watcher, way)
    back, fresh = await _fresh_again(trial, watcher, back)
    await asyncio.sleep(WATCHED_S)
    calls = await trial.proxy.calls(after=back.call)
    check_times(trial, back, fresh, calls)
    check_rate(trial, back, calls)
    check_moves(trial, watcher, back)
    check_single_flight(trial, way, calls)


async def _recovered(trial: Trial) -> None:
    """Make everything fresh, and wait until all that was asked for that has been answered.

    A source that is still being asked would not notice when all are polled. In a running deployment, whose token may
    not allow us to poll, there is nothing to wait for.
    """
    before = await _as_of(trial)
    await trial.deployment.recover()
    deadline = time.monotonic() + PATIENCE_S
    while trial.settings is not None and time.monotonic() < deadline:
        now = await _as_of(trial)
        if all(now[name] != before[name] for name in before):
            return
        await asyncio.sleep(POLL_S)


async def _as_of(trial: Trial) -> Mapping[str, str | None]:
    status = await trial.gateway.status()
    return {source.type: source.as_of for source in status.sources if source.type in trial.sources}


async def _away_and_back(trial: Trial, watcher: Observer, way: Way) -> Return:
    began, before = watcher.mark, await trial.proxy.last_call()
    await trial.proxy.set(way.fault)
    await trial.gateway.poll(trial.deployment.backend)  # all sources that are not being asked notice it now
    opening, opened = await trial.see_move(f"{way.name}: the breaker opens", watcher, "open", after=began)
    first = last = await trial.see_probe_fail(watcher, opening)
    probed = await trial.proxy.last_call()
    for _ in range(PROBES - 1):
        last = await trial.see_probe_fail(watcher, last)
    status = await trial.gateway.status()
    sources = [source for source in status.sources if source.type in trial.sources]
    mark, call, at = watcher.mark, await trial.proxy.last_call(), time.monotonic()
    await trial.proxy.clear(type(way.fault))
    await _check_calls_while_out(trial, watcher, way, first, calls=(before, probed, call))
    return Return(
        way=way,
        at=at,
        began=began,
        mark=mark,
        stale=[source for source in sources if source.stale],
        others=[source for source in sources if not source.stale],
        opened=opened,
        open_for_s=at - watcher.came_at(opening),
        retry_in_s=read_move(last).period_s - (at - watcher.came_at(last)),
        call=call,
    )


async def _check_calls_while_out(
    trial: Trial, watcher: Observer, way: Way, first: Frame, *, calls: tuple[int, int, int]
) -> None:
    """Check the calls since the `first` probe had failed: then all calls of the closed breaker were over.

    `calls` are the numbers of the newest calls before the outage, after that probe, and at the return.
    """
    claim = f"{way.name}: while it is out, nothing but probes"
    status = await trial.gateway.status()
    if any(breaker.name.startswith(f"{trial.breaker}/") for breaker in status.breakers):
        trial.skip(claim, "which calls are those of sources with a breaker of their own is not public")
        return
    before, probed, last = calls
    whole = [call for call in await trial.proxy.calls(after=before) if call.number <= last]
    since = [call for call in whole if call.number > probed]
    moves = watcher.moves(trial.breaker, after=watcher.after(first))
    probes = sum(read_move(frame).state == "half_open" for frame in moves)
    saw = f"{len(whole)} calls during the whole outage; since the first probe at most {most_at_once(since)} at once"
    trial.measure(claim, Figure(len(since), probes, "calls"), saw=saw)
    trial.check(f"{way.name}: one probe at a time", most_at_once(since) <= 1, saw)


async def _fresh_again(trial: Trial, watcher: Observer, back: Return) -> tuple[Return, Mapping[str, float]]:
    """Return when a client heard that each source that was stale is fresh, in seconds since the backend's return.

    A call that was sent during the outage brings no good answer, so data with a newer `as_of` was asked for after the
    return. Sources that take too long are missing. A source that was not asked during the outage may be fresh with the
    data that it had, once the breaker is closed: in the `Return` that is returned it is no longer one of the stale.
    """
    known = {source.type: source.as_of or "" for source in back.stale}
    fresh: dict[str, float] = {}
    kept: set[str] = set()
    seen = back.mark

    def are_all_fresh() -> bool:
        nonlocal seen
        for frame, came in zip(watcher.frames[seen:], watcher.came[seen:], strict=True):
            if frame.stale is not False or frame.type not in known:
                continue
            if (frame.as_of or "") > known[frame.type]:
                fresh.setdefault(frame.type, came - back.at)
            else:
                kept.add(frame.type)
        seen = watcher.mark
        return fresh.keys() | kept == known.keys()

    _, last_s = bounds(trial, back, CallLatency())
    with contextlib.suppress(NotSeen):
        await watcher.when(are_all_fresh, within_s=last_s + BUSY_S + OVERDUE_S)
    _check_kept(trial, watcher, back, kept)
    kept -= fresh.keys()
    stale = [source for source in back.stale if source.type not in kept]
    others = [*back.others, *(source for source in back.stale if source.type in kept)]
    if trial.settings is not None:
        saw = f"{len(stale)} of {len(trial.sources)}"
        trial.check(f"{back.way.name}: most sources have to be asked again", len(stale) > len(others), saw)
    return msgspec.structs.replace(back, stale=stale, others=others), fresh


def _check_kept(trial: Trial, watcher: Observer, back: Return, kept: Collection[str]) -> None:
    """Check the sources that were fresh again with the data that they had: none of their own calls had failed."""
    frames = watcher.frames[back.began : back.mark]
    failed = {frame.type for frame in frames if frame.stale and frame.error_code != "CIRCUIT_BREAKER_OPEN"}
    trial.check_none(
        f"{back.way.name}: no source whose call failed is fresh before it was asked again",
        sorted(failed.intersection(kept)),
        f"{len(failed)} said that their call had failed, {len(kept)} were fresh with the data that they had",
    )


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
