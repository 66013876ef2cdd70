"""Scenario 4: the backend recovers, and the gateway recovers without any action."""

import asyncio
import itertools
from typing import Final

from tidegate.verify.audit import RESOLUTION_S, most_at_once
from tidegate.verify.deployment import SLACK_S
from tidegate.verify.faultproxy import CallRecord, Fault
from tidegate.verify.frames import Frame, clock, read_move, seconds
from tidegate.verify.observer import Observer
from tidegate.verify.trial import Trial

INTERVALS_HELD: Final = 2.5
"""How many intervals to hold a probe. In this time every source is due at least twice."""

INTERVALS_WATCHED: Final = 2
"""How many intervals to watch after the recovery, in which nothing else may happen."""

BURST_SHARE: Final = 0.25
"""The smallest distance between spread calls, as a share of the even distance. Below 1 because of busy machines."""


async def play(trial: Trial) -> None:
    async with trial.watching("a client of everything") as watcher:
        await _recovers_by_itself(trial, watcher)
        await trial.deployment.recover()
        await _one_probe_at_a_time(trial, watcher)


async def _recovers_by_itself(trial: Trial, watcher: Observer) -> None:
    mark = watcher.mark
    await trial.proxy.set(Fault.down())
    opening, opened = await trial.see_move("the backend is gone, the breaker opens", watcher, "open", after=mark)
    call = await trial.proxy.last_call()
    await trial.proxy.clear(Fault.down)
    mark = watcher.after(opening)
    closing, _ = await trial.see_move("the backend is back, the breaker closes", watcher, "closed", after=mark)
    fresh = await trial.see_fresh("every source is fresh", watcher, after=mark)
    _check_times(trial, watcher, opening, fresh)
    await asyncio.sleep(INTERVALS_WATCHED * trial.deployment.interval_s)
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    trial.check(
        "exactly one closed, and no move after it",
        moves.count("closed") == 1 and moves[-1] == "closed",
        " → ".join([opened.state, *moves]),
    )
    calls = await trial.proxy.calls(after=call)
    _check_single_flight(trial, calls)
    _check_spread(trial, calls, closing)


def _check_times(trial: Trial, watcher: Observer, opening: Frame, fresh: dict[str, Frame]) -> None:
    """Check that everything is fresh one interval after `retry_at`: that of the last opening, if a probe failed."""
    openings = [opening, *watcher.moves(trial.breaker, after=watcher.after(opening))]
    retry_at = max(seconds(at) for frame in openings if (at := read_move(frame).retry_at) is not None)
    last = max(frame.at for frame in fresh.values())
    limit_s = trial.deployment.interval_s + SLACK_S
    trial.check(
        "everything is fresh within retry_at and one interval",
        last <= retry_at + limit_s,
        f"retry_at {clock(retry_at)}, the last source {last - retry_at:+.3f} s from it"
        f" (interval {trial.deployment.interval_s:g} s)",
    )


def _check_single_flight(trial: Trial, calls: list[CallRecord]) -> None:
    """Check how many calls were in flight at once.

    In a local deployment each source has its own method. In a running one, only the number of sources is known.
    """
    limit = 1 if trial.settings else len(trial.sources)
    most = {"+".join(methods): most_at_once(calls, methods=methods) for methods in {call.methods for call in calls}}
    wrong = [f"{method}: {count} at once" for method, count in most.items() if count > limit]
    trial.check_none("at most one call in flight per source", wrong, f"{len(calls)} calls of {len(most)} methods")


def _check_spread(trial: Trial, calls: list[CallRecord], closing: Frame) -> None:
    """Check that after the probe, the polls of the other sources are spread evenly over one interval."""
    claim = "after the probe the calls are spread"
    if trial.settings is None or len(trial.sources) < 3:
        trial.skip(claim, "which call a source makes, and whether they are batched, is not public")
        return
    probe = next(call for call in reversed(calls) if call.came_wall <= closing.at + RESOLUTION_S)
    firsts: dict[tuple[str, ...], CallRecord] = {}
    for call in calls:
        if call.number > probe.number and call.methods != probe.methods:
            firsts.setdefault(call.methods, call)
    came = sorted(call.came_mono for call in firsts.values())
    apart_s = trial.deployment.interval_s / len(came)
    least_s = min((b - a for a, b in itertools.pairwise(came)), default=0.0)
    saw = f"{len(came)} sources, at least {least_s:.3f} s apart (evenly: {apart_s:.3f} s)"
    trial.check(claim, least_s >= BURST_SHARE * apart_s, saw)


async def _one_probe_at_a_time(trial: Trial, watcher: Observer) -> None:
    """Hold the answer to the probe until the other sources are due. Check that none of them calls the backend."""
    mark = watcher.mark
    await trial.proxy.set(Fault.down())
    opening, _ = await trial.see_move("it opens once more", watcher, "open", after=mark)
    opening = await trial.see_probe_fail(watcher, opening)
    mark, call = watcher.after(opening), await trial.proxy.last_call()
    await trial.proxy.set(Fault.late())
    await trial.proxy.clear(Fault.down)
    await trial.see_held(1)
    await asyncio.sleep(INTERVALS_HELD * trial.deployment.interval_s)
    calls = await trial.proxy.calls(after=call)
    probes = [f for f in watcher.moves(trial.breaker, after=mark) if read_move(f).state == "half_open"]
    trial.check(
        f"while the probe is under way nobody else calls, for {INTERVALS_HELD:g} intervals",
        1 <= len(calls) <= len(probes) and most_at_once(calls) == 1,
        f"{len(calls)} calls, {len(probes)} probes, at most {most_at_once(calls)} at once",
    )
    await trial.proxy.clear(Fault.late)
    await trial.proxy.release()
    await trial.see_move("the probe succeeds, it closes", watcher, "closed", after=mark)
    await trial.see_fresh("every source is fresh", watcher, after=mark)
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    trial.check("again exactly one closed", moves.count("closed") == 1, " → ".join(["open", *moves]))
