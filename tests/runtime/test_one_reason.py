"""An outage tells one reason, once, of everything that it makes stale: in virtual time."""

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec
import pytest
from fanout import snapshots_of
from house import INTERVAL_S, TIMEOUT_S, House, source, stall, times, virtual
from msgspec import Raw

from tidegate.core.shaping import Shape
from tidegate.errors import Disconnected
from tidegate.ports import Call

OPEN_FOR_A_TIMEOUT = ("CIRCUIT_BREAKER_OPEN", "RPC_TIMEOUT")


@pytest.mark.parametrize("interval_s", [0.5, 1.0, TIMEOUT_S])
@pytest.mark.parametrize("late_s", [0.0, 0.015])
def test_a_hang_no_shorter_than_the_interval_is_told_as_a_timeout_alone(interval_s: float, late_s: float) -> None:
    """The age limit and the deadline of the next call fall together then, or just miss each other."""

    async def hang() -> None:
        house = House(source(interval_s=interval_s, stale_repeat=False))
        async with house.supervisor.running():
            await asyncio.sleep(1.2)
            house.backend.hang()
            due = times(house.backend)[-1] + interval_s
            await asyncio.sleep(due - 1e-4 - asyncio.get_running_loop().time())
            stall(late_s)
            await asyncio.sleep(TIMEOUT_S + 1.0)
        assert house.stale("a.status") == [("RPC_TIMEOUT", None)]
        assert [msgspec.json.decode(draft.data)["error_code"] for draft in house.of("source.freshness")] == [
            None,
            "RPC_TIMEOUT",
        ]

    virtual(hang)()


@virtual
async def test_a_call_that_was_under_way_when_the_process_was_stopped_is_a_timeout_alone() -> None:
    house = House(source(stale_repeat=False))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.hang()
        await asyncio.sleep(times(house.backend)[-1] + INTERVAL_S + 0.1 - asyncio.get_running_loop().time())
        stall(3600.0)
        (handed,) = snapshots_of(house.gateway, "a.status")
        assert msgspec.json.decode(handed)["stale"], "what is handed over before its end is known is not called fresh"
        await asyncio.sleep(0.1)
        assert house.stale("a.status") == [("RPC_TIMEOUT", None)]


@virtual
async def test_a_backend_that_does_not_let_itself_be_cancelled_cannot_hide_that_its_data_is_old() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(1.5)

        async def call(calls: Sequence[Call]) -> Sequence[Raw]:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600.0)
            await asyncio.sleep(60.0)
            return [Raw(b"1")]

        house.backend.call = call  # type: ignore[method-assign, assignment]
        await asyncio.sleep(2 * INTERVAL_S)
        assert [code for code, _ in house.stale("a.status")] == ["OVERDUE"]


@virtual
async def test_a_tick_at_which_data_becomes_too_old_says_so_once() -> None:
    """Answers take so long that the age limit falls on a tick which finds the next call under way."""
    house = House(source(interval_s=1.0))
    house.backend.delay_s = TIMEOUT_S - 0.1
    async with house.supervisor.running():
        await asyncio.sleep(60.0)
        told = [at for at, draft in house.published if draft.type == "a.status" and draft.stale]
        assert told
        assert len(told) == len(set(told))


@virtual
async def test_one_outage_tells_one_reason_whoever_is_behind_the_breaker() -> None:
    """Four sources hang together, and the third trips it; a keyed one is stale before, and one has nothing to say."""
    agents = source("d.agents", shape=Shape(items=("",), key=(("id",),)), interval_s=7.0)
    house = House(
        *(source(f"{name}.status", interval_s=0.95 * TIMEOUT_S) for name in "abcf"), agents, source("e.status")
    )
    house.backend.script = lambda call: [{"id": "x"}, {"id": "y"}] if call.method == "d.agents" else 1
    async with house.supervisor.running():
        await asyncio.sleep(1.9)
        house.backend.hang()
        while house.states()[-1] != "open":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        for event_type in ("a.status", "b.status", "c.status", "f.status", "e.status", "d.agents"):
            told = house.stale(event_type)
            assert told[-1] == OPEN_FOR_A_TIMEOUT
            assert len(told) == len(set(told)) * (2 if event_type == "d.agents" else 1), "each reason once"
            assert not {code for code, _ in told} & {"OVERDUE"}
            assert house.freshness(event_type)["error_code"] == "CIRCUIT_BREAKER_OPEN"
        await asyncio.sleep(60.0)
        for event_type in ("a.status", "e.status", "d.agents"):
            assert house.stale(event_type)[-1] == OPEN_FOR_A_TIMEOUT
        house.backend.recover()
        house.backend.fail(Disconnected("refused"))
        while (states := house.states())[-1] != "open" or states.count("open") < 4:
            await asyncio.sleep(0.01)
    for event_type in ("a.status", "e.status", "d.agents"):
        assert house.stale(event_type)[-1] == ("CIRCUIT_BREAKER_OPEN", "RPC_DISCONNECT")
    assert [key for key, draft in ((d.key, d) for d in house.of("d.agents")) if draft.cause == "RPC_DISCONNECT"] == [
        "x",
        "y",
    ]
