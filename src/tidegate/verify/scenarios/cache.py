"""Scenario 5: the last good values, read in every way while the backend is down and after the gateway was killed."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from tidegate.verify.faultproxy import AnyFault, Fault, name_of
from tidegate.verify.frames import Frame, Name, clock, read_move, seconds
from tidegate.verify.observer import Observer
from tidegate.verify.trial import Good, Trial

SAVED_S: Final = 1.0
"""How long after its arrival a good value is on disk for certain."""

READS: Final = 100
FAST_S: Final = 0.1
"""Limit on the median time of a read. Reads take about a millisecond; the rest is for a busy machine."""

TRIES: Final = 5
"""How often to repeat a comparison because the breaker moved during it."""

OVERWRITERS: Final[tuple[AnyFault, ...]] = (Fault.rpc_error(), Fault.html(), Fault.no_result_no_error(), Fault.status())
"""Unusable answers, one of each kind. None of them may overwrite a good value."""

Content = dict[Name, tuple[object, ...]]


async def play(trial: Trial) -> None:
    async with trial.watching("a client of everything") as watcher:
        await _no_error_overwrites(trial, watcher)
        good = await _loses_the_backend(trial, watcher)
        await _rest_equals_websocket(trial)
        await _reads_ask_nothing(trial, watcher)
        await _unchanged(trial, good, "after several failed probes the values are still the last good ones")
    await _survives_a_kill(trial, good)


async def _no_error_overwrites(trial: Trial, watcher: Observer) -> None:
    for fault in OVERWRITERS:
        mark = watcher.mark
        await trial.proxy.set(fault)
        await trial.see_stale(f"{name_of(fault)}: every source is stale", watcher, after=mark)
        await _unchanged(trial, trial.last_good(watcher), f"{name_of(fault)} overwrites nothing")
        mark = watcher.mark
        await trial.deployment.recover()
        await trial.see_fresh(f"{name_of(fault)} is over", watcher, after=mark)


async def _loses_the_backend(trial: Trial, watcher: Observer) -> Good:
    """Make the backend fail. Return the last good values, when they are on disk and the breaker is open."""
    mark = watcher.mark
    await trial.proxy.set(Fault.status(code=503))
    await trial.see_stale("the backend answers 503: every source is stale", watcher, after=mark)
    good = trial.last_good(watcher)
    await trial.see_move("the breaker opens", watcher, "open", after=mark)
    await asyncio.sleep(max(0.0, max(frame.at for frame in good.values()) + SAVED_S - time.time()))
    return good


async def _unchanged(trial: Trial, good: Good, claim: str) -> None:
    """Check that REST shows the values of `good`, as stale."""
    shown = {frame.name: frame for frame in (await trial.gateway.snapshot()).events}
    trial.check_none(claim, _differences(trial, shown, good), f"{len(good)} values, all of them stale")


def _differences(trial: Trial, shown: Good, good: Good) -> list[str]:
    """Return the values of `good` that are missing in `shown`, or that are not stale repeats."""
    missing = [f"{event_type} {key}: no value" for event_type, key in good if (event_type, key) not in shown]
    return missing + trial.falsehoods(shown.values(), good)


async def _rest_equals_websocket(trial: Trial) -> None:
    """Check that REST and the WebSocket agree. Both are read between two moves of the breaker.

    They may show different repeats of the same stale event.
    """
    for _ in range(TRIES):
        before = await trial.gateway.breaker(trial.breaker)
        rest, told = await _both(trial)
        if await trial.gateway.breaker(trial.breaker) == before:
            break
    else:
        trial.skip("REST and WebSocket hand out the same", f"the breaker moved in each of {TRIES} tries")
        return
    wrong = [
        f"{name}: REST {rest.get(name)}, WebSocket {told.get(name)}"
        for name in rest | told
        if rest.get(name) != told.get(name)
    ]
    trial.check_none("REST and WebSocket hand out the same", wrong, f"{len(rest)} events")


async def _both(trial: Trial) -> tuple[Content, Content]:
    """Return the values that REST shows, and the snapshots of a new client."""
    async with trial.visiting("a new client") as visitor:
        rest = {frame.name: _content(frame) for frame in (await trial.gateway.snapshot()).events}
        await visitor.when(lambda: len(visitor.snapshots()) >= len(rest), within_s=trial.patience_s)
        return rest, {name: _content(frame) for name, frame in visitor.snapshots().items()}


def _content(frame: Frame) -> tuple[object, ...]:
    """Return the content of a retained event that is the same in all its repeats."""
    return (
        frame.value,
        frame.source,
        frame.stale,
        frame.as_of,
        frame.error_code,
        frame.retry_at,
        frame.cause,
        frame.expired,
        frame.snapshot,
    )


async def _reads_ask_nothing(trial: Trial, watcher: Observer) -> None:
    mark, call = watcher.mark, await trial.proxy.last_call()
    took = []
    for _ in range(READS):
        began = time.perf_counter()
        await trial.gateway.snapshot()
        took.append(time.perf_counter() - began)
    async with trial.visiting("a reader", types=trial.sources):
        pass
    calls = await trial.proxy.calls(after=call)
    await watcher.ping(within_s=trial.patience_s)
    probes = [f for f in watcher.moves(trial.breaker, after=mark) if read_move(f).state == "half_open"]
    saw = f"{len(calls)} calls for {READS} reads and a new client, {len(probes)} probes"
    trial.check("reads ask nothing of the backend", len(calls) <= len(probes) + 1, saw)
    median_s = sorted(took)[READS // 2]
    saw = f"median {median_s * 1000:.1f} ms, slowest {max(took) * 1000:.1f} ms"
    trial.check("reads are fast while the breaker is open", median_s <= FAST_S, saw)


async def _survives_a_kill(trial: Trial, good: Good) -> None:
    claim = "a gateway that is killed and restarted while the backend is down serves the saved values"
    if not trial.deployment.is_local:
        trial.skip(claim, "this gateway is not ours to kill")
        return
    await trial.proxy.set(Fault.down())
    began = time.monotonic()
    await trial.deployment.restart_gateway()
    restarted_s = time.monotonic() - began
    async with trial.watching("a client after the restart") as watcher:
        await watcher.when(lambda: len(watcher.snapshots()) >= len(good), within_s=trial.patience_s)
        served_s = time.monotonic() - began
        shown = watcher.snapshots()
        saw = f"listening {restarted_s:.2f} s after the kill, all values served after {served_s:.2f} s"
        trial.check_none(claim, _differences(trial, shown, good), saw)
        await _restored_at_first(trial, watcher.welcome.epoch, good)
        await _unchanged(trial, good, "REST serves the saved values too")
        mark = watcher.mark
        await trial.proxy.clear()
        fresh = await trial.see_fresh("the backend is back: every source is fresh", watcher, after=mark)
        trial.check_none("every fresh value is newer than the saved one", _older(fresh.values(), good), "yes")


async def _restored_at_first(trial: Trial, epoch: str, good: Good) -> None:
    """Read the new epoch from its start: the saved values come before the first poll has ended."""
    async with trial.visiting("a client that asks for all since the start", since=f"{epoch}:0") as reader:
        wanted = set(good)

        def first() -> dict[Name, Frame] | None:
            found = {frame.name: frame for frame in reversed(reader.values(trial.sources))}
            return found if wanted <= set(found) else None

        told = await trial.see(
            "the history of the new epoch begins with every value",
            reader,
            first,
            say=lambda found: f"{len(found)} values",
        )
    wrong = _differences(trial, told, good)
    wrong += [f"{name[0]}: {frame.error_code}" for name, frame in told.items() if frame.error_code != "RESTORED"]
    ages = ", ".join(f"{name[0]} as of {clock(seconds(frame.as_of))}" for name, frame in told.items() if frame.as_of)
    trial.check_none("they are RESTORED, with their true as_of", wrong, ages)


def _older(frames: Iterable[Frame], good: Good) -> list[str]:
    return [f"{f.type}: {f.as_of}" for f in frames if f.name in good and (f.as_of or "") <= (good[f.name].as_of or "")]
