"""Scenario 1: all moves of the breaker, their times and reasons, as clients and REST show them."""

import asyncio
import itertools
import time
from typing import Final

from tidegate.verify.audit import RESOLUTION_S
from tidegate.verify.deployment import SLACK_S
from tidegate.verify.faultproxy import CallRecord, Fault
from tidegate.verify.frames import Frame, Move, clock, read_move, seconds
from tidegate.verify.observer import NotSeen, Observer
from tidegate.verify.obstacles import CouldNotTest
from tidegate.verify.trial import Trial

LATE_TRIES: Final = 3
"""How often to try again because a busy machine delivered a held answer only after its timeout."""

HINTS: Final = 50
HINT_S: Final = 0.02
"""The number of hints to send, and the pause between them. A source must never have two calls in flight."""

IN_FLIGHT_S: Final = 0.1
"""How long after the opening a call may still arrive that was sent before it."""


async def play(trial: Trial) -> None:
    async with (
        trial.watching("a client of everything") as watcher,
        trial.watching("a client of the breaker alone", types=("circuit_breaker.*",)) as second,
    ):
        begun = watcher.mark, second.mark
        await _stays_closed_below_the_threshold(trial, watcher)
        opened = await _opens(trial, watcher)
        reopened = await _probes_and_opens_for_longer(trial, watcher, opened)
        await _probes_and_closes(trial, watcher, reopened)
        await _everyone_heard_the_same(trial, watcher, second, begun)
        await _a_late_success_moves_nothing(trial, watcher)


async def _stays_closed_below_the_threshold(trial: Trial, watcher: Observer) -> None:
    claim = "one failure less than the threshold, then a success: it stays closed and the count is 0 again"
    if trial.settings is None:
        trial.skip(claim, "the threshold of a deployment is not public")
        return
    mark, count = watcher.mark, trial.settings.failure_threshold - 1
    await trial.proxy.set(Fault.status(code=500, count=count))
    used_up = await trial.proxy.until(lambda state: not state.faults, within_s=trial.patience_s)
    trial.require(f"{count} calls fail", used_up, "HTTP 500 each" if used_up else "so many calls never came")
    await trial.see_fresh("the next calls succeed", watcher, after=watcher.mark)
    rest = await trial.gateway.breaker(trial.breaker)
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    saw = f"moves: {moves or 'none'}; failure_count {rest.failure_count}"
    trial.check(claim, not moves and rest.failure_count == 0, saw)


async def _opens(trial: Trial, watcher: Observer) -> Frame:
    """Check that the breaker opens after exactly as many failures as needed. Later calls are never answered."""
    threshold = trial.settings.failure_threshold if trial.settings else None
    mark, call = watcher.mark, await trial.proxy.last_call()
    await trial.proxy.set(Fault.black_hole())
    await trial.proxy.set(Fault.status(code=500, count=threshold))
    frame, move = await trial.see_move("it opens", watcher, "open", after=mark)
    await trial.proxy.clear(Fault.status)
    failed = [c for c in await trial.proxy.calls(after=call) if "status" in c.faults]
    trial.check(
        "it opens by the threshold, with as many failures as calls had failed",
        move.from_state == "closed"
        and move.reason == "failure_threshold"
        and move.failure_count <= len(failed) < move.failure_count + len(trial.sources)
        and move.failure_count == (threshold or move.failure_count),
        f"failure_count {move.failure_count}, {len(failed)} calls failed, threshold {threshold or 'not public'}",
    )
    await trial.agree(move)
    _check_period(trial, frame, move, nth=1)
    return frame


async def _probes_and_opens_for_longer(trial: Trial, watcher: Observer, opening: Frame) -> Frame:
    """Let the probe meet a black hole. Check that half-open lasts until the timeout of the call."""
    opened, call = read_move(opening), await trial.proxy.last_call()
    frame, move = await trial.see_move("it becomes half-open", watcher, "half_open", after=watcher.after(opening))
    await trial.agree(move)
    await _check_probe_time(trial, opened, frame)
    await trial.until_probed(after=call)
    await trial.proxy.set(Fault.late())
    await trial.proxy.clear(Fault.black_hole)
    frame, again = await trial.see_move("a failing probe opens it again", watcher, "open", after=watcher.after(frame))
    trial.check(
        "it opened because the probe failed, once more in a row",
        again.from_state == "half_open"
        and again.reason == "probe_failed"
        and again.open_count == opened.open_count + 1,
        f"{again.reason}, open_count {again.open_count} after {opened.open_count}",
    )
    await trial.agree(again)
    _check_period(trial, frame, again, nth=2)
    if trial.settings is None and opened.open_count > 1:
        trial.skip("the second period is longer", "the breaker had opened before, and open_max_s is not public")
    else:
        saw = f"{opened.period_s:.3f} s, then {again.period_s:.3f} s"
        trial.check("the second period is longer", again.period_s > opened.period_s, saw)
    return frame


async def _probes_and_closes(trial: Trial, watcher: Observer, opening: Frame) -> None:
    """Hold the answer to the probe. Check that half-open lasts until it is released."""
    mark = watcher.after(opening)
    frame, move = await trial.see_move("it becomes half-open again", watcher, "half_open", after=mark)
    await _check_probe_time(trial, read_move(opening), frame)
    await trial.see_held(1)
    await trial.agree(move)
    await trial.proxy.clear(Fault.late)
    await trial.proxy.release()
    _, closed = await trial.see_move("a good probe closes it", watcher, "closed", after=mark)
    trial.check(
        "it closed because the probe succeeded",
        closed.from_state == "half_open" and closed.reason == "probe_succeeded" and closed.failure_count == 0,
        f"{closed.reason}, failure_count {closed.failure_count}",
    )
    await trial.agree(closed)
    await trial.see_fresh("everything is fresh again", watcher, after=mark)


async def _everyone_heard_the_same(trial: Trial, watcher: Observer, second: Observer, begun: tuple[int, int]) -> None:
    moves = [read_move(frame) for frame in watcher.moves(trial.breaker, after=begun[0])]
    states = [move.state for move in moves]
    expected = ["open", "half_open", "open", "half_open", "closed"]
    trial.check("each move came once, in order", states == expected, " → ".join(["closed", *states]))
    chained = all(a.state == b.from_state for a, b in itertools.pairwise(moves))
    trial.check("each move begins where the one before ended", chained, f"{len(moves)} moves")
    await trial.see(
        "the other client heard the same moves",
        second,
        lambda: [read_move(frame) for frame in second.moves(trial.breaker, after=begun[1])] == moves,
        say=lambda _: f"{len(moves)} moves",
    )


async def _a_late_success_moves_nothing(trial: Trial, watcher: Observer) -> None:
    """Let a call that was admitted before the breaker opened succeed while a probe is in flight."""
    claim = "a success from before the trip does not close a half-open breaker"
    if trial.settings is None:
        trial.skip(claim, "the timeout of a deployment is not public, and its intervals may be longer")
        return
    for _ in range(LATE_TRIES):
        await trial.deployment.recover()
        call, known = await _hold_a_call_and_trip(trial, watcher)
        mark, released_at = watcher.mark, time.time()
        await trial.proxy.release()
        if await _was_taken(trial, watcher, call, known):
            break
    else:
        raise CouldNotTest(f"a held answer never got through before its timeout, in {LATE_TRIES} tries")
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    rest = await trial.gateway.breaker(trial.breaker)
    saw = f"released at {clock(released_at)}; moves after it: {', '.join(moves) or 'none'}; REST says {rest.state}"
    trial.check(claim, "closed" not in moves and rest.state != "closed", saw)


async def _hold_a_call_and_trip(trial: Trial, watcher: Observer) -> tuple[CallRecord, str]:
    """Hold one answer, fail the other sources until the breaker opens, and wait for the probe, which gets no answer.

    Return the held call, and the newest `as_of` before it.
    """
    assert trial.settings is not None
    mark, last = watcher.mark, await trial.proxy.last_call()
    await trial.proxy.set(Fault.late(count=1))
    await trial.see_held(1)
    [call] = [c for c in await trial.proxy.calls(after=last) if "late" in c.faults]
    known = max(frame.as_of or "" for frame in watcher.values([_type_of(trial, call)]))
    await trial.proxy.set(Fault.black_hole())
    await trial.proxy.set(Fault.status(code=500, count=trial.settings.failure_threshold))
    for _ in range(HINTS):
        if not watcher.moves(trial.breaker, after=mark):
            await trial.gateway.poll(trial.deployment.backend)
            await asyncio.sleep(HINT_S)
    await trial.see_move("it opens while a call is under way, and probes", watcher, "half_open", after=mark)
    return call, known


async def _was_taken(trial: Trial, watcher: Observer, call: CallRecord, known: str) -> bool:
    """Return whether the answer of `call` reached the gateway in time: it then publishes data newer than `known`."""
    assert trial.settings is not None
    own = [_type_of(trial, call)]
    try:
        await watcher.when(
            lambda: any((frame.as_of or "") > known for frame in watcher.values(own)),
            within_s=trial.settings.timeout_s,
        )
    except NotSeen:
        return False
    return True


def _type_of(trial: Trial, call: CallRecord) -> str:
    assert trial.settings is not None
    return next(name for name, method in trial.settings.methods.items() if call.methods == (method,))


def _check_period(trial: Trial, frame: Frame, move: Move, *, nth: int) -> None:
    claim = f"opening {nth} lasts as long as configured, with jitter in the upper half"
    if trial.settings is None:
        trial.skip(claim, "open_s of a deployment is not public")
        return
    longest = min(trial.settings.open_s * 2 ** (nth - 1), trial.settings.open_max_s)
    holds = longest / 2 - RESOLUTION_S <= move.period_s <= longest + RESOLUTION_S
    trial.check(claim, holds, f"{move.period_s:.3f} s of {longest / 2:g} to {longest:g} s, at {clock(frame.at)}")


async def _check_probe_time(trial: Trial, opened: Move, probe: Frame) -> None:
    """Check that no call comes between the opening and `retry_at`, and that the probe comes then."""
    assert opened.opened_at is not None
    assert opened.retry_at is not None
    due = seconds(opened.retry_at)
    late_s = probe.at - due
    trial.check(
        "the probe comes at retry_at, not before",
        -RESOLUTION_S <= late_s <= SLACK_S,
        f"retry_at {clock(due)}, half-open {late_s:+.3f} s from it",
    )
    if trial.deployment.is_local:
        calls = await trial.proxy.calls()
        early = [c for c in calls if seconds(opened.opened_at) + IN_FLIGHT_S < c.came_wall < due - RESOLUTION_S]
        trial.check("while it is open the backend is not called", not early, f"{len(early)} calls before {clock(due)}")
