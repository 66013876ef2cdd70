"""Scenario 3: what subscribers get while the backend is down, and how often the gateway calls the backend then."""

import asyncio
import itertools
import time
from typing import Final

from tidegate.verify.audit import RESOLUTION_S, most_at_once
from tidegate.verify.deployment import SLACK_S
from tidegate.verify.faultproxy import CallRecord, Fault
from tidegate.verify.frames import Frame, clock, read_error, read_move, seconds
from tidegate.verify.observer import NotSeen, Observer, StreamEnded
from tidegate.verify.trial import Good, Trial

NEWCOMERS: Final = 5
ASKED_S: Final = 1.0
"""How much later than `as_of` a request may reach the backend."""

HTTP_OK: Final = 200
PROBES: Final = 2


async def play(trial: Trial) -> None:
    async with (
        trial.watching("a client of everything") as watcher,
        trial.watching("a client of the defaults", types=None) as second,
    ):
        mark, began = watcher.mark, time.time()
        await trial.proxy.set(Fault.down())
        await trial.see_stale("the backend is gone: every source says that it is stale", watcher, after=mark)
        good = trial.last_good(watcher)
        _first_word(trial, watcher, mark)
        await _newcomers_know(trial, good, when="at once")
        opening, _ = await trial.see_move("the breaker opens", watcher, "open", after=mark)
        await _newcomers_know(trial, good, when="while it is open")
        await _nothing_but_probes(trial, watcher, await trial.see_probe_fail(watcher, opening))
        for observer in (watcher, second):
            _had_the_truth(trial, observer, good, since=began)
        _true_age(trial, good, await trial.proxy.calls())
        _heart_beats(trial, watcher, since=began)
        await trial.deployment.recover()


def _first_word(trial: Trial, watcher: Observer, mark: int) -> None:
    """Check that the first reported failure makes its source stale at once, and that nothing is fresh after it."""
    frames = watcher.frames[mark:]
    errors = [frame for frame in frames if frame.type == "rpc_error" and read_error(frame).source in trial.sources]
    if not errors:
        claim = "the first failure is told"
        if trial.settings is None:
            trial.skip(claim, "the limit of a deployment is not public: an episode from before may go on")
        else:
            trial.check(claim, False, "no rpc_error came")
        return
    first, error = errors[0], read_error(errors[0])
    told = [frame for frame in frames if frame.type == error.source and frame.stale]
    trial.check(
        "the first stale event comes with the first failure, and carries its code",
        bool(told)
        and abs(told[0].at - first.at) <= RESOLUTION_S
        and error.error_code in {told[0].error_code, told[0].cause},
        f"{error.source}: {error.error_code} at {clock(first.at)}, stale at {clock(told[0].at) if told else 'no time'}",
    )


async def _newcomers_know(trial: Trial, good: Good, *, when: str) -> None:
    """Check that new clients get the last good data, marked as stale."""
    claim = f"{NEWCOMERS} new clients have the last good data {when}, marked stale"
    began = time.monotonic()
    found = await asyncio.gather(*(_ignorance(trial, f"newcomer {n + 1}", good) for n in range(NEWCOMERS)))
    wrong = list(itertools.chain.from_iterable(found))
    trial.check_none(claim, wrong, f"{len(good)} snapshots each, all of them after {time.monotonic() - began:.3f} s")


async def _ignorance(trial: Trial, label: str, good: Good) -> list[str]:
    """Return what is missing or wrong in the snapshots of a new client."""
    async with trial.visiting(label, types=trial.sources) as newcomer:
        try:
            await newcomer.when(lambda: set(newcomer.snapshots()) >= set(good), within_s=SLACK_S)
        except (NotSeen, StreamEnded) as error:
            return [f"{label} was handed {len(newcomer.snapshots())} of {len(good)} values: {error}"]
        return [f"{label}: {what}" for what in trial.falsehoods(newcomer.snapshots().values(), good)]


async def _nothing_but_probes(trial: Trial, watcher: Observer, opening: Frame) -> None:
    """Make the backend answer 503 from now on instead of refusing connections, so that calls can be counted."""
    call = await trial.proxy.last_call()
    await trial.proxy.set(Fault.status(code=503))
    await trial.proxy.clear(Fault.down)
    mark = watcher.mark

    def failed() -> list[Frame]:
        moves = watcher.moves(trial.breaker, after=mark)
        return [frame for frame in moves if read_move(frame).state == "open"]

    failures = await trial.see(
        f"{PROBES} probes fail",
        watcher,
        lambda: failed() if len(failed()) >= PROBES else None,
        say=lambda frames: ", ".join(clock(frame.at) for frame in frames),
    )
    _check_calls(trial, watcher, opening, await trial.proxy.calls(after=call))
    between = watcher.frames[watcher.after(failures[0]) : watcher.after(failures[1])]
    open_now = [frame for frame in between if frame.type in trial.sources]
    wrong = [f"{f.type} of {clock(f.at)}: {f.error_code}, {f.cause}" for f in open_now if f.cause != "RPC_HTTP_STATUS"]
    trial.check_none("stale events name the newest cause", wrong, f"RPC_HTTP_STATUS in {len(open_now)} events")


def _check_calls(trial: Trial, watcher: Observer, opening: Frame, calls: list[CallRecord]) -> None:
    moves = [opening, *watcher.moves(trial.breaker, after=watcher.after(opening))]
    probes = [frame for frame in moves if read_move(frame).state == "half_open"]
    trial.check(
        "each call that the backend sees is one probe, alone",
        1 <= len(calls) <= len(probes) and most_at_once(calls) == 1,
        f"{len(calls)} calls, {len(probes)} probes, at most {most_at_once(calls)} at once",
    )
    if not trial.deployment.is_local:
        return
    early = [c for c in calls if not any(f.at - RESOLUTION_S <= c.came_wall <= f.at + SLACK_S for f in probes)]
    saw = ", ".join(clock(call.came_wall) for call in calls)
    trial.check_none(
        "they come when the breaker becomes half-open", [f"a call at {clock(c.came_wall)}" for c in early], saw
    )


def _had_the_truth(trial: Trial, observer: Observer, good: Good, *, since: float) -> None:
    """Check all events since the first stale event of each source: they must repeat the last good data as stale."""
    wrong: list[str] = []
    counts: list[str] = []
    for name in good:
        told = [f for f in observer.values([name[0]]) if f.name == name and f.at >= since - RESOLUTION_S]
        stale = list(itertools.dropwhile(lambda frame: frame.stale is False, told))
        wrong += trial.falsehoods(stale, good) or ([] if stale else [f"{name[0]}: no stale event"])
        counts.append(f"{name[0]} {len(stale)} times")
        if trial.deployment.is_local:
            wrong += _silences(stale, trial.deployment.interval_s)
    claim = f"{observer.label} had the last good data all the time, stale, with an unchanged as_of"
    trial.check_none(claim, wrong, ", ".join(counts))


def _silences(frames: list[Frame], interval_s: float) -> list[str]:
    """Return the places where a source was silent for more than two ticks."""
    pairs = itertools.pairwise(frames)
    longest_s = 2 * interval_s + SLACK_S
    return [f"{b.type}: silent for {b.at - a.at:.3f} s" for a, b in pairs if b.at - a.at > longest_s]


def _true_age(trial: Trial, good: Good, calls: list[CallRecord]) -> None:
    """Check that `as_of` of stale events is the time of a call that the backend answered successfully."""
    claim = "their as_of is when the last good answer was asked for"
    if trial.settings is None:
        trial.skip(claim, "which call a source makes is not public, nor is the clock of the deployment ours")
        return
    wrong, saw = [], []
    for (event_type, _), frame in good.items():
        assert frame.as_of is not None
        sent = seconds(frame.as_of)
        own = [call for call in calls if call.methods == (trial.settings.methods[event_type],)]
        next_call = next((call for call in own if call.came_wall >= sent - RESOLUTION_S), None)
        if next_call is None or next_call.faults or next_call.status != HTTP_OK or next_call.came_wall - sent > ASKED_S:
            wrong.append(f"{event_type}: no good call was sent at {clock(sent)}")
        else:
            saw.append(f"{event_type} asked at {clock(sent)}, call came at {clock(next_call.came_wall)}")
    trial.check_none(claim, wrong, "; ".join(saw))


def _heart_beats(trial: Trial, watcher: Observer, *, since: float) -> None:
    interval_s = watcher.welcome.heartbeat_interval_s
    beats = [frame.at for frame in watcher.frames if frame.type == "heartbeat" and frame.at >= since]
    waits = [b - a for a, b in itertools.pairwise([since, *beats, time.time()])]
    saw = f"{len(beats)} beats in {time.time() - since:.1f} s, at most {max(waits):.3f} s apart"
    trial.check("heartbeats go on", max(waits) <= interval_s + SLACK_S, saw)
