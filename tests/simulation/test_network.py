"""The simulation's network connects, refuses and hangs as real kernels and resolvers do."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from simulation.network import LATE_S, Door, Manner, noted
from simulation.scenario import KERNELS
from simulation.virtual import VirtualLoop, run_in_virtual_time
from yarl import URL

from tidegate.outbound.http_client import Destination

BACKEND = Destination(url=URL("http://alpha:80/rpc"), peer="alpha:80")


class Attempt:
    stood = True


def with_a_door(syns_s: tuple[int, ...], test: Callable[[VirtualLoop, Door], Coroutine[Any, Any, None]]) -> None:
    """Run `test` at a door behind which a server takes connections."""

    async def main(loop: VirtualLoop) -> None:
        door = Door(loop, "alpha", syns_s)
        listener: Any = door.listener
        server = await loop.create_server(asyncio.Protocol, sock=listener)
        door.manner = Manner.TAKEN
        await test(loop, door)
        server.close()

    run_in_virtual_time(main)


@pytest.mark.parametrize(("syns_s", "connected_at"), [(KERNELS[0], 5.0), (KERNELS[1], 7.0)])
def test_a_connection_stands_at_the_first_syn_that_is_answered(syns_s: tuple[int, ...], connected_at: float) -> None:
    async def test(loop: VirtualLoop, door: Door) -> None:
        door.manner = Manner.UNANSWERED
        loop.call_later(4.5, setattr, door, "manner", Manner.TAKEN)
        attempt = Attempt()
        with noted(attempt):
            connecting = asyncio.ensure_future(door.connected(BACKEND))
        await asyncio.sleep(4.9)
        assert not attempt.stood
        (await connecting).close()
        assert attempt.stood
        assert loop.time() == pytest.approx(connected_at + LATE_S)

    with_a_door(syns_s, test)


def test_nobody_waits_for_a_kernel_that_has_given_up() -> None:
    async def test(loop: VirtualLoop, door: Door) -> None:
        door.manner = Manner.UNANSWERED
        with pytest.raises(TimeoutError):
            await door.connected(BACKEND)

    with_a_door((0, 1), test)


def test_a_lookup_is_shared_and_survives_who_waits_for_it() -> None:
    async def test(loop: VirtualLoop, door: Door) -> None:
        door.lookup_s = 20.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await door.connected(BACKEND)
        await asyncio.sleep(10)
        (await door.connected(BACKEND)).close()
        assert loop.time() == pytest.approx(20.0)

    with_a_door(KERNELS[0], test)


def test_a_name_that_is_not_known_is_an_error_of_the_resolver() -> None:
    async def test(loop: VirtualLoop, door: Door) -> None:
        door.is_known = False
        with pytest.raises(socket.gaierror):
            await door.connected(BACKEND)

    with_a_door(KERNELS[0], test)


@pytest.mark.parametrize("manner", [Manner.EVERY_OTHER, Manner.ONE_SLOT])
def test_some_connections_are_refused(manner: Manner) -> None:
    async def test(loop: VirtualLoop, door: Door) -> None:
        door.manner = manner
        came = []
        for _ in range(2):
            with contextlib.suppress(ConnectionRefusedError):
                came.append(await door.connected(BACKEND))
        assert len(came) == 1
        came[0].close()

    with_a_door(KERNELS[0], test)
