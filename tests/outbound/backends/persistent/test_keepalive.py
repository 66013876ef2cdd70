"""A quiet connection is asked, and one that does not answer is given up. In virtual time."""

import asyncio
import socket

import pytest
from house import virtual

from tidegate.outbound.backends.persistent.keepalive import ALIVE_S, Pings, keep_alive


class Line:
    """A connection that is quiet, and has a ping if it `can_ping`."""

    def __init__(self, *, can_ping: bool = True) -> None:
        self.can_ping = can_ping
        self.answers = False
        self.is_idle = True
        self.pinged: list[float] = []
        self.gone: list[float] = []
        self.pings = Pings(
            ping=self.ping,
            is_idle=lambda: self.is_idle,
            gone=lambda: self.gone.append(asyncio.get_running_loop().time()),
        )
        self.pings.start()

    def ping(self) -> bool:
        self.pinged.append(asyncio.get_running_loop().time())
        if self.answers:
            asyncio.get_running_loop().call_later(1.0, self.pings.heard)
        return self.can_ping

    def end(self) -> None:
        self.gone.append(asyncio.get_running_loop().time())


@virtual
async def test_a_ping_without_an_answer_ends_the_connection_once() -> None:
    line = Line()
    await asyncio.sleep(10 * ALIVE_S)
    assert (line.pinged, line.gone) == ([ALIVE_S], [2 * ALIVE_S])


@virtual
async def test_answers_keep_it() -> None:
    line = Line()
    line.answers = True
    await asyncio.sleep(20 * ALIVE_S)
    assert len(line.pinged) == 10
    assert line.gone == []
    line.pings.stop()


@virtual
async def test_who_talks_is_not_asked() -> None:
    line = Line()
    for _ in range(10):
        line.pings.heard()
        await asyncio.sleep(ALIVE_S / 2)
    assert line.pinged == []
    line.pings.stop()


@virtual
async def test_a_call_under_way_is_left_to_its_deadline() -> None:
    line = Line()
    line.is_idle = False
    await asyncio.sleep(10 * ALIVE_S)
    assert line.gone == []
    line.is_idle = True
    await asyncio.sleep(2 * ALIVE_S)
    assert len(line.gone) == 1


@virtual
async def test_where_there_are_no_pings_nothing_is_given_up() -> None:
    line = Line(can_ping=False)
    await asyncio.sleep(10 * ALIVE_S)
    assert line.gone == []
    line.pings.stop()


@virtual
async def test_nothing_is_asked_of_a_connection_that_has_ended() -> None:
    line = Line()
    line.pings.stop()
    await asyncio.sleep(10 * ALIVE_S)
    assert line.pinged == []


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPCNT"), reason="needs Linux' options")
def test_the_kernel_finds_out_within_a_minute_and_a_half_that_a_machine_is_gone() -> None:
    with socket.socket() as sock:
        keep_alive(sock)
        idle, every, count = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert idle + every * count <= 90
    with socket.socket(socket.AF_UNIX) as sock:
        keep_alive(sock)
