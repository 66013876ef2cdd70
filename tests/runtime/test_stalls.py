"""What is said and answered after the event loop stood still, in virtual time."""

import asyncio
from typing import Any

from house import House, source, stall, virtual
from structlog.testing import capture_logs

from tidegate.runtime.stalls import STALLED_S, Stalls


def said(lines: Any, event: str = "the event loop stood still") -> list[dict[str, Any]]:
    return [dict(line) for line in lines if line["event"] == event]


@virtual
async def test_a_loop_that_stood_still_is_said_once_it_goes_on_and_is_not_ready_for_a_while() -> None:
    house = House(source())
    with capture_logs() as lines:
        async with house.supervisor.running():
            await asyncio.sleep(2.0)
            began = house.clock.now().wall
            stall(STALLED_S + 1.0)
            await asyncio.sleep(0.2)
            (line,) = said(lines)
            assert house.supervisor.readiness().status == "stalled"
            await asyncio.sleep(STALLED_S)
            assert house.supervisor.readiness().status == "ready"
    assert line["log_level"] == "warning"
    assert STALLED_S + 0.8 < line["for_s"] <= STALLED_S + 1.0
    assert line["since"].startswith("2026-11-18T")
    assert began > 0
    assert "busy_s" in line


@virtual
async def test_a_short_stall_is_said_and_changes_nothing_for_balancers_and_a_shorter_one_is_not_said() -> None:
    house = House(source())
    with capture_logs() as lines:
        async with house.supervisor.running():
            await asyncio.sleep(2.0)
            stall(0.9)
            await asyncio.sleep(1.0)
            assert said(lines) == []
            stall(2.0)
            await asyncio.sleep(0.2)
            assert len(said(lines)) == 1
            assert house.supervisor.readiness().status == "ready"


@virtual
async def test_a_process_that_stands_still_again_and_again_is_said_at_a_bounded_rate() -> None:
    house = House(source())
    with capture_logs() as lines:
        async with house.supervisor.running():
            for _ in range(200):
                stall(1.5)
                await asyncio.sleep(1.5)
    assert 10 <= len(said(lines)) <= 24
    assert sum(line.get("suppressed", 1) for line in said(lines)) == 200


@virtual
async def test_a_machine_that_was_asleep_did_not_stall() -> None:
    house = House(source())
    awake = [0.0]
    with capture_logs() as lines:
        stalls = Stalls(house.clock, house.metrics.observe, awake=lambda: awake[0], busy=lambda: 0.0)
        stall(3600.0)
        awake[0] += 0.1
        stalls.late(3599.9)
        assert not stalls.is_stalled
        assert said(lines) == []
        (line,) = said(lines, "the machine was asleep")
        assert line["for_s"] == 3599.9
        stall(20.0)  # asleep for 10 s of these
        awake[0] += 10.0
        stalls.late(19.9)
        stalls.close()
    assert stalls.is_stalled
    assert [line["for_s"] for line in said(lines)] == [9.9]
