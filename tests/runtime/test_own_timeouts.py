"""`timeout_s` of a source: its calls end by it, and everything that follows from the end of a call."""

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec
import pytest
from house import House, source, times, virtual
from msgspec import Raw

from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.errors import BackendError, HttpStatus
from tidegate.ports import Call

NEVER_S = 100_000.0


def failures(house: House) -> dict[str, tuple[str, str]]:
    """The code and the message of the last error of each source."""
    errors = [msgspec.json.decode(draft.data) for draft in house.of("rpc_error")]
    return {error["source"]: (error["error_code"], error["message"]) for error in errors}


@virtual
async def test_a_call_ends_after_the_time_of_its_own_source() -> None:
    """The backend's is 2 s."""
    house = House(source("slow.x", timeout_s=7.0), source("usual.x"), source("quick.x", timeout_s=0.5))
    house.backend.delay_s = NEVER_S
    async with house.supervisor.running():
        await asyncio.sleep(9.0)
    assert {name: code for name, (code, _) in failures(house).items()} == dict.fromkeys(
        ["slow.x", "usual.x", "quick.x"], "RPC_TIMEOUT"
    )
    for name, limit_s in (("slow.x", 7.0), ("usual.x", 2.0), ("quick.x", 0.5)):
        assert failures(house)[name][1].endswith(f"within {limit_s:g} s")
        asked = next(exchange.at for exchange in house.backend.exchanges if exchange.methods == [name])
        told = next(at for at, draft in house.published if draft.type == "source.freshness" and draft.key == name)
        assert told - asked == pytest.approx(limit_s, abs=0.05)


@virtual
async def test_a_slow_source_gets_its_answer() -> None:
    house = House(source("slow.x", timeout_s=7.0))
    house.backend.delay_s = 6.0
    async with house.supervisor.running():
        await asyncio.sleep(8.0)
        assert not any(view.stale for view in house.supervisor.sources())


@virtual
async def test_a_batch_may_take_as_long_as_any_of_its_elements() -> None:
    house = House(source("slow.x", timeout_s=7.0), source("quick.x", timeout_s=0.5), batch=True)
    house.backend.delay_s = 6.0
    async with house.supervisor.running():
        await asyncio.sleep(8.0)
        assert not any(view.stale for view in house.supervisor.sources())
        house.backend.delay_s = NEVER_S
        await asyncio.sleep(20.0)
    assert {message for _, message in failures(house).values()} == {"expected an answer within 7 s"}
    for name in ("slow.x", "quick.x"):
        assert failures(house)[name][0] == "RPC_TIMEOUT"


@virtual
async def test_the_age_at_which_data_is_overdue_goes_by_the_time_of_its_own_source() -> None:
    """Though the batch that might bring a new value may go on for longer."""
    slow = source("slow.x", interval_s=4.0, timeout_s=9.0)
    quick = source("quick.x", interval_s=4.0, timeout_s=0.5)
    house = House(slow, quick, batch=True)
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        assert {view.type: view.max_age_s for view in house.supervisor.sources()} == {"slow.x": 13.0, "quick.x": 8.0}
        house.backend.delay_s = NEVER_S
        await asyncio.sleep(20.0)
    good_at = times(house.backend)[0]
    for name, reason, after_s in (("quick.x", "OVERDUE", 8.0), ("slow.x", "RPC_TIMEOUT", 13.0)):
        told, draft = next((at, draft) for at, draft in house.published if draft.type == name and draft.stale)
        assert draft.error_code == reason
        assert told - good_at == pytest.approx(after_s, abs=0.1)


class Stubborn:
    """Fails at first; then no call ends, even if it is cancelled."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []

    async def call(self, calls: Sequence[Call]) -> Sequence[Raw | BackendError]:
        loop = asyncio.get_running_loop()
        self.asked_at.append(loop.time())
        if len(self.asked_at) == 1:
            raise HttpStatus(500, "")
        ends_at = loop.time() + 30.0
        while loop.time() < ends_at:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(ends_at - loop.time())
        return [Raw(b"1") for _ in calls]

    async def aclose(self) -> None:
        return None


@pytest.mark.parametrize("timeout_s", [0.5, 7.0])
def test_a_probe_whose_call_does_not_end_loses_its_place_a_second_after_the_deadline_of_that(timeout_s: float) -> None:
    @virtual
    async def run() -> None:
        backend = Stubborn()
        rules = BreakerRules(failure_threshold=1, open_s=1.0, open_max_s=1.0)
        house = House(*(source(f"{name}.x", timeout_s=timeout_s) for name in "abc"), breaker=rules, backend=backend)
        async with house.supervisor.running():
            await asyncio.sleep(12.0)
            _, probe_at, next_at, *_ = backend.asked_at
            assert next_at - probe_at == pytest.approx(timeout_s + 1.0, abs=0.05)
            await asyncio.sleep(40.0)

    run()
