"""A backend that is away and a thousand who want to know of it: it sees nothing but single probes."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
from simulation.clients import Wire

from tidegate.verify.audit import RESOLUTION_S, most_at_once
from tidegate.verify.deployment import SLACK_S, Deployment, local_deployment
from tidegate.verify.faultproxy import CallRecord, Fault
from tidegate.verify.frames import Frame, Move, is_move, read_frame, read_move, seconds
from tidegate.verify.observer import Observer, observing

pytestmark = pytest.mark.real

CROWD = 1000
PROBES = 3
READERS = 20
PATIENCE_S = 120.0
POKE_EVERY_S = 10.0
"""A poke brings a probe forward so seldom: the tenth poke of a crowd changes nothing."""


class Subscriber:
    """One of the crowd: subscribed to everything, it keeps what it heard and asks for more of the same now and then."""

    def __init__(self, wire: Wire, heard: list[bytes]) -> None:
        self._wire = wire
        self._heard = heard

    @classmethod
    async def connected(cls, url: str, stack: AsyncExitStack) -> "Subscriber":
        heard: list[bytes] = []
        host, _, port = url.removeprefix("http://").partition(":")
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: Wire("/ws?types=*", heard.append), host, int(port)
        )
        stack.callback(wire.abort)
        assert (await wire.opened).status_code == 101
        return cls(wire, heard)

    @property
    def is_connected(self) -> bool:
        return not self._wire.lost.done()

    def ask_again(self, types: Sequence[str]) -> None:
        self._wire.ask({"type": "unsubscribe", "data": {"types": list(types)}})
        self._wire.ask({"type": "subscribe", "data": {"types": list(types)}})

    def believes(self, types: Sequence[str]) -> dict[str, Frame]:
        """The newest that it was told of each of `types`."""
        found: dict[str, Frame] = {}
        for frame in map(read_frame, reversed(self._heard)):
            if frame.type in types:
                found.setdefault(frame.type, frame)
            if len(found) == len(types):
                break
        return found


async def test_whatever_the_crowd_does_the_backend_sees_single_probes_and_only_a_rare_poke_brings_one_forward() -> None:
    async with (
        local_deployment() as deployment,
        observing(deployment.gateway.url, label="the witness", types=["*"]) as witness,
        AsyncExitStack() as stack,
    ):
        await deployment.recover()
        crowd = await gathered(CROWD // 2, deployment, stack)
        await deployment.proxy.set(Fault.status(code=503))
        await moved(witness, deployment, "open", times=1)
        crowd += await gathered(CROWD - len(crowd), deployment, stack)
        since = len(moves(witness, deployment, "open"))
        for times in range(since + 1, since + PROBES + 1):
            await pester(crowd, deployment)
            await moved(witness, deployment, "open", times=times)
        opened = [move for _, move in moves(witness, deployment, "open")]
        tried = [(at, move.reason) for at, move in moves(witness, deployment, "half_open")]
        calls = await deployment.proxy.calls()
        await everyone(crowd, deployment, lambda frame: frame.stale is True and frame.cause == "RPC_HTTP_STATUS")
        await deployment.proxy.clear()
        await moved(witness, deployment, "closed", times=1)
        await everyone(crowd, deployment, lambda frame: frame.stale is False)
        assert all(subscriber.is_connected for subscriber in crowd)
    check_probes(opened, tried, calls, sources=len(deployment.sources))


async def gathered(count: int, deployment: Deployment, stack: AsyncExitStack) -> list[Subscriber]:
    return [await Subscriber.connected(deployment.gateway.url, stack) for _ in range(count)]


async def pester(crowd: Sequence[Subscriber], deployment: Deployment) -> None:
    """Everyone subscribes anew, some read the snapshot, and somebody says that something has changed."""
    for subscriber in crowd:
        subscriber.ask_again(deployment.sources)
    await asyncio.gather(*(deployment.gateway.snapshot() for _ in range(READERS)))
    await deployment.gateway.poll(deployment.backend)


def moves(witness: Observer, deployment: Deployment, state: str) -> list[tuple[float, Move]]:
    """The moves to `state`, and when each was published."""
    found = [frame for frame in witness.frames if is_move(frame, deployment.backend, state)]
    return [(seconds(frame.timestamp), read_move(frame)) for frame in found]


async def moved(witness: Observer, deployment: Deployment, state: str, *, times: int) -> None:
    """The breaker has moved to `state` so often."""

    def so_often() -> bool:
        return sum(is_move(frame, deployment.backend, state) for frame in witness.frames) >= times

    await witness.when(so_often, within_s=PATIENCE_S)


async def everyone(crowd: Sequence[Subscriber], deployment: Deployment, holds: Callable[[Frame], bool]) -> None:
    """Whatever a subscriber was told last of each source, `holds` of it, sooner or later."""
    async with asyncio.timeout(PATIENCE_S):
        for subscriber in crowd:
            while not all(map(holds, told := subscriber.believes(deployment.sources).values())) or len(told) < len(
                deployment.sources
            ):
                await asyncio.sleep(0.01)


def check_probes(
    opened: Sequence[Move], tried: Sequence[tuple[float, str]], calls: Sequence[CallRecord], *, sources: int
) -> None:
    """After an opening no call but one, before the next opening: from the announced time on, or because of a poke."""
    times = [(seconds(move.opened_at or ""), seconds(move.retry_at or "")) for move in opened]
    after = [call for call in calls if times[0][0] < call.came_wall < times[-1][0] + RESOLUTION_S]
    under_way = [call for call in after if call.came_wall < tried[0][0] - RESOLUTION_S]
    assert len(under_way) < sources, "admitted before the first opening, and slow to arrive"
    probes, reasons = after[len(under_way) :], [reason for _, reason in tried[: len(times) - 1]]
    assert len(probes) == len(reasons) >= PROBES
    poked = [probe.came_wall for probe, reason in zip(probes, reasons, strict=True) if reason == "poke"]
    assert all(later - earlier >= POKE_EVERY_S - SLACK_S for earlier, later in pairwise(poked))
    for probe, reason, (_, due), (failed, _) in zip(probes, reasons, times[:-1], times[1:], strict=True):
        assert reason == "poke" or due - RESOLUTION_S <= probe.came_wall, (probe, reason, due)
        assert probe.came_wall <= min(failed + RESOLUTION_S, due + SLACK_S), (probe, reason, due)
    assert most_at_once(probes) == 1
