"""A small sample of the bench's `bounds`, over real sockets, with default settings.

The bounds of the rules are 3 s and 2 s. A busy machine gets more here, but less than a gateway would take that does not
knock (up to 8 s more), or that waits for the next tick (20 s).
"""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from bench.faults import HOST, FaultyBackend, Outage, busiest
from bench.recovering import Cell, GatewayLane, Round, measured
from bench.servers import Tidegate
from bench.watching import largest_gap

REFUSED = Cell(Outage.REFUSED, sources=20, interval_s=1.0, lengths_s=(10.0,))
ONE_POLL = Cell(Outage.ONE_POLL, sources=3, interval_s=20.0, lengths_s=(1.0,))

SLACK_S = 3.0


@pytest.mark.real
async def test_the_last_source_is_fresh_soon_after_an_outage_and_after_one_failed_poll() -> None:
    lane = GatewayLane(Tidegate(), [REFUSED, ONE_POLL])

    refused, one_poll = await measured([lane], patience_s=30.0, warm_s=3.0)

    assert refused["touched"] == 20
    assert refused["knocks"] >= 4  # one a second is due
    assert refused["last_s"] is not None
    assert refused["last_s"] < 3.0 + SLACK_S
    assert one_poll["touched"] == 1
    assert one_poll["last_s"] is not None
    assert one_poll["last_s"] < 2.0 + SLACK_S


def test_the_busiest_second_may_begin_anywhere() -> None:
    assert busiest([0.0, 0.7, 0.9, 1.6, 1.69, 3.0]) == 4
    assert busiest([]) == 0


def test_only_sources_that_the_outage_touched_are_waited_for() -> None:
    now = time.time()
    it = Round(5.0, out_at=now - 10, returned_at=now - 5)
    it.stale(1)
    it.fresh(1, as_of=now - 6)
    assert not it.over

    it.fresh(1, as_of=now - 4)
    it.fresh(2, as_of=now - 4)
    it.stale(2)
    assert it.over
    assert it.touched == {1}


@pytest.fixture
async def backend() -> AsyncIterator[FaultyBackend]:
    backend = FaultyBackend()
    await backend.start()
    yield backend
    backend.close()


async def asked(backend: FaultyBackend, *, within_s: float = 10.0) -> bytes:
    """The first line of the answer. Raises `OSError`, of which `TimeoutError` is one."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(HOST, backend.port)
        try:
            writer.write(b"GET /7 HTTP/1.1\r\n\r\n")
            return await reader.readline()
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("outage", "error"),
    [
        (Outage.REFUSED, ConnectionRefusedError),
        (Outage.UNANSWERED, TimeoutError),
        (Outage.HANG, TimeoutError),
    ],
)
async def test_a_backend_that_is_out_and_comes_back(
    backend: FaultyBackend, outage: Outage, error: type[OSError]
) -> None:
    assert b"200" in await asked(backend)
    await backend.go_out(outage)
    with pytest.raises(error):
        await asked(backend, within_s=0.3)
    await backend.come_back()
    assert b"200" in await asked(backend)


async def test_a_backend_that_fails_a_single_poll(backend: FaultyBackend) -> None:
    await backend.go_out(Outage.ONE_POLL)
    assert b"500" in await asked(backend)
    assert b"200" in await asked(backend)
    assert backend.numbers == [7, 7]


def test_the_longest_delay_is_over_the_interval_of_each_source() -> None:
    backend = FaultyBackend()
    backend.called_at = [0.0, 0.5, 1.0, 1.7, 9.0]
    backend.numbers = [1, 2, 1, 2, 1]
    assert largest_gap(backend, 1.0, 0.0, 5.0) == pytest.approx(0.2)
    backend.close()
