"""The machine sleeps: time goes on, and the event loop, whose clock stands still, notices nothing."""

import asyncio

import pytest
from house import INTERVAL_S, House, source, times, virtual
from simulation.virtual import EPOCH_WALL
from structlog.testing import capture_logs

from tidegate.core.events import Draft
from tidegate.errors import Disconnected
from tidegate.outbound.clock import LOOK_S, SystemClock

LATENCY_S = 0.1


class SleepyClock(SystemClock):
    """The gateway's own clock, on a machine that sleeps when it is told to."""

    def __init__(self) -> None:
        self.asleep_s = 0.0
        super().__init__(mono=self.time, wall=lambda: EPOCH_WALL + self.time())

    def time(self) -> float:
        return asyncio.get_running_loop().time() + self.asleep_s


@pytest.fixture(autouse=True)
def sleepy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("house.LoopClock", SleepyClock)


def sleeps(house: House, seconds: float) -> None:
    clock = house.clock
    assert isinstance(clock, SleepyClock)
    clock.asleep_s += seconds


def since(house: House, at: float) -> list[Draft]:
    return [draft for when, draft in house.published if when >= at and draft.type == "a.status"]


@virtual
async def test_what_grew_too_old_meanwhile_is_told_and_asked_again_within_a_second_of_waking() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(INTERVAL_S + 2.0)
        last = house.of("a.status")[-1]
        assert not last.stale
        woke, asked = asyncio.get_running_loop().time(), len(times(house.backend))
        with capture_logs() as lines:
            sleeps(house, 3600.0)
            await asyncio.sleep(LOOK_S + 2 * LATENCY_S)
    stale, fresh = since(house, woke)
    assert (stale.stale, stale.error_code, stale.as_of) == (True, "OVERDUE", last.as_of)
    assert fresh.stale is False
    assert times(house.backend)[asked] - woke <= LOOK_S
    assert fresh.as_of is not None
    assert last.as_of is not None
    assert fresh.as_of - last.as_of > 3600.0
    assert "wall clock set" not in {line["event"] for line in lines}


@virtual
async def test_a_probe_that_became_due_meanwhile_is_sent_within_a_second_of_waking() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(INTERVAL_S + 2.0)
        house.backend.fail(Disconnected("gone"))
        while house.states()[-1:] != ["open"]:
            await asyncio.sleep(1.0)
        house.backend.recover()
        sleeps(house, 600.0)
        await asyncio.sleep(LOOK_S + 2 * LATENCY_S)
        assert house.states()[-1] == "closed"
