"""Scenario 6: mistakes in our own configuration: a source's request or mapping is wrong, and the backend is healthy.

The fault proxy simulates this: it answers some methods as a healthy backend answers a wrong request.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from tidegate.verify.audit import RESOLUTION_S
from tidegate.verify.endpoints import POLL_S
from tidegate.verify.faultproxy import AnyFault, CallRecord, Fault
from tidegate.verify.frames import Frame, clock, is_move, read_move
from tidegate.verify.observer import Observer
from tidegate.verify.trial import Trial

METHOD_NOT_FOUND: Final = -32601

ENOUGH_FAILURES: Final = 6
"""More failures than the default threshold of a breaker. The threshold of a running deployment is not public."""

INTERVALS_WATCHED: Final = 2
"""How many intervals to watch the breaker after a recovery."""


class Mistake(msgspec.Struct, frozen=True):
    """A mistake, how a backend answers it, and the error code that the source reports.

    `backs_off` says that the source is then polled less and less often.
    """

    name: str
    fault: AnyFault
    code: str
    backs_off: bool = False


async def play(trial: Trial) -> None:
    async with trial.watching("a client of everything") as watcher:
        methods = await _methods(trial)
        for mistake in _mistakes(trial, methods):
            if len(methods) > 1:
                await _hurts_no_neighbour(trial, watcher, mistake, methods[0])
            else:
                trial.skip(f"{mistake.name}: no other source notices", "the backend is asked for one method alone")
            await _is_not_held_against_the_backend(trial, watcher, mistake, methods)
            await _does_not_keep_a_recovered_backend_out(trial, watcher, mistake, methods)


async def _methods(trial: Trial) -> list[str]:
    """Return the methods that the gateway calls: JSON-RPC methods, or paths of plain HTTP."""
    if trial.settings is not None:
        return list(trial.settings.methods.values())
    before = await trial.proxy.last_call()
    await asyncio.sleep(INTERVALS_WATCHED * trial.deployment.interval_s)
    calls = await trial.proxy.calls(after=before)
    batched = any(len(call.methods) > 1 for call in calls)
    found = dict.fromkeys(method for call in calls for method in call.methods or (call.path,))
    trial.require("the backend is polled", bool(found), f"{len(calls)} calls of {len(found)} methods")
    return [next(iter(found))] if batched else list(found)


def _mistakes(trial: Trial, methods: Sequence[str]) -> list[Mistake]:
    is_plain_http = methods[0].startswith("/")
    wrong_method = Fault.status(code=404) if is_plain_http else Fault.rpc_error(code=METHOD_NOT_FOUND)
    code = "RPC_HTTP_STATUS" if is_plain_http else "RPC_APPLICATION_ERROR"
    mistakes = [
        Mistake("a wrong method", wrong_method, code),
        Mistake("a refused account", Fault.unauthorized(), "RPC_AUTH", backs_off=True),
    ]
    if trial.settings is None:
        trial.skip("a mapping that fails hurts nobody else", "which answers no source can use is not public")
    else:
        unusable = Fault.huge_body(size_bytes=2 * trial.settings.event_bytes)
        mistakes.insert(0, Mistake("a mapping that fails", unusable, "RPC_INVALID_RESPONSE"))
    return mistakes


async def _hurts_no_neighbour(trial: Trial, watcher: Observer, mistake: Mistake, method: str) -> None:
    """Answer one method like that repeatedly. Check that one source reports it, and that nothing else happens."""
    mark, call = watcher.mark, await trial.proxy.last_call()
    await trial.proxy.set(msgspec.structs.replace(mistake.fault, methods=(method,)))

    def stale() -> Frame | None:
        return next((frame for frame in watcher.values(trial.sources, after=mark) if frame.stale), None)

    first = await trial.see(
        f"{mistake.name}: its source is stale and says why",
        watcher,
        stale,
        say=lambda frame: f"{frame.type} {frame.error_code}",
    )
    await _fail_often(trial, mistake, method, after=call)
    trial.check(f"{mistake.name}: the code is {mistake.code}", first.error_code == mistake.code, str(first.error_code))
    calls = [one for one in await trial.proxy.calls(after=call) if method in (*one.methods, one.path)]
    others = [
        f"{clock(frame.at)} {frame.type}: {frame.error_code}"
        for frame in watcher.values(trial.sources, after=mark)
        if frame.stale and frame.type != first.type
    ]
    trial.check_none(f"{mistake.name}: no other source notices", others, f"{len(calls)} failing calls")
    await _is_over(trial, watcher, mistake)


async def _is_not_held_against_the_backend(
    trial: Trial, watcher: Observer, mistake: Mistake, methods: Sequence[str]
) -> None:
    """Answer every method like that. Check that the breaker does not move, because the backend is healthy."""
    mark, call = watcher.mark, await trial.proxy.last_call()
    await trial.proxy.set(msgspec.structs.replace(mistake.fault, methods=tuple(methods)))
    await trial.see_stale(f"{mistake.name} of every source: all are stale", watcher, after=mark)
    await _fail_often(trial, mistake, methods[0], after=call)
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    codes = {frame.error_code for frame in watcher.values(trial.sources, after=mark) if frame.stale}
    rest = await trial.gateway.breaker(trial.breaker)
    saw = f"moves: {', '.join(moves) or 'none'}; failure_count {rest.failure_count}; {', '.join(map(str, codes))}"
    right = not moves and rest.failure_count == 0 and codes == {mistake.code}
    trial.check(f"{mistake.name} of every source: it is not held against the backend", right, saw)
    await _is_over(trial, watcher, mistake)


async def _is_over(trial: Trial, watcher: Observer, mistake: Mistake) -> None:
    mark = watcher.mark
    await trial.deployment.heal()
    if not mistake.backs_off:
        await trial.see_fresh(f"{mistake.name} is over: every source is fresh", watcher, after=mark)


async def _fail_often(trial: Trial, mistake: Mistake, method: str, *, after: int) -> None:
    """Wait until `method` was called often enough to open a breaker, or for the time that this would take."""
    wanted = 2 * trial.settings.failure_threshold if trial.settings else ENOUGH_FAILURES
    deadline = time.monotonic() + (wanted + 1) * trial.deployment.interval_s
    while mistake.backs_off or not _asked_for(method, await trial.proxy.calls(after=after), times=wanted):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(POLL_S)


def _asked_for(method: str, calls: Sequence[CallRecord], *, times: int) -> bool:
    return sum(method in (*call.methods, call.path) for call in calls) >= times


async def _does_not_keep_a_recovered_backend_out(
    trial: Trial, watcher: Observer, mistake: Mistake, methods: Sequence[str]
) -> None:
    """Check that after an outage, a probe closes the breaker although its source has the mistake."""
    await trial.proxy.set(msgspec.structs.replace(mistake.fault, methods=tuple(methods)))
    mark = watcher.mark
    await trial.proxy.set(Fault.down())
    call = await trial.proxy.last_call()
    opening, _ = await trial.see_move(f"{mistake.name}, and the backend goes", watcher, "open", after=mark)
    mark = watcher.after(opening)
    await trial.proxy.clear(Fault.down)
    closing, _ = await trial.see_move(
        f"{mistake.name}, and the backend is back: it closes", watcher, "closed", after=mark
    )
    await _check_probes(trial, watcher, mistake, closing, after=mark, call=call)
    mark = watcher.after(closing)
    await trial.deployment.heal()
    await asyncio.sleep(INTERVALS_WATCHED * trial.deployment.interval_s)
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    trial.check(f"{mistake.name}: it stays closed", not moves, f"moves: {', '.join(moves) or 'none'}")
    await trial.deployment.recover()


async def _check_probes(
    trial: Trial, watcher: Observer, mistake: Mistake, closing: Frame, *, after: int, call: int
) -> None:
    """Check that the first call to reach the backend closes the breaker, whatever the source makes of the answer."""
    claim = f"{mistake.name}: the first probe that reaches the backend closes the breaker"
    if trial.settings is None:
        trial.skip(claim, "how many probes must succeed is not public")
        return
    first = min(await trial.proxy.calls(after=call), key=lambda one: one.came_mono)
    moves = [frame for frame in watcher.moves(trial.breaker, after=after) if frame.at <= closing.at]
    # Earlier probes found the backend down. After the closing, other sources are polled, maybe in the same millisecond.
    reopened = [frame for frame in moves if is_move(frame, trial.breaker, "open") and _is_after(frame, first)]
    told = " → ".join(read_move(frame).state for frame in moves)
    trial.check(
        claim, not reopened, f"{told}; the first call came {closing.at - first.came_wall:+.3f} s before the end"
    )


def _is_after(frame: Frame, call: CallRecord) -> bool:
    return frame.at >= call.came_wall - RESOLUTION_S
