"""What a backend hints at is polled now, and nothing that its iterator does wrong does harm. In virtual time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from house import House, source, times, virtual
from structlog.testing import capture_logs

from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.testing import ScriptedBackend

RARELY_S = 3600.0


def rare(event_type: str, *refresh_on: str) -> SourcePlan:
    return source(event_type, interval_s=RARELY_S, refresh_on=refresh_on)


def methods(backend: ScriptedBackend) -> list[str]:
    return [method for exchange in backend.exchanges for method in exchange.methods]


def hints(house: House) -> Counter[str]:
    return Counter(result for _, result in house.metrics.named("hint_taken"))


async def settle(backend: ScriptedBackend) -> None:
    """Wait for the first polls, and forget them."""
    await asyncio.sleep(2.0)
    backend.exchanges.clear()


class Strange(ScriptedBackend):
    """A backend of somebody else. `given` is what each call of `hints` returns; the last goes on for ever."""

    def __init__(self, *given: Callable[[], Any]) -> None:
        super().__init__(lambda call: {"ok": True}, delay_s=0.1)
        self.given = list(given)
        self.asked: list[float] = []

    def hints(self) -> AsyncIterator[str | None]:
        self.asked.append(asyncio.get_running_loop().time())
        made = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        found: AsyncIterator[str | None] = made()
        return found


async def silent() -> AsyncIterator[str | None]:
    await asyncio.Event().wait()
    yield None


@virtual
async def test_the_sources_that_name_a_hint_are_polled_at_once() -> None:
    house = House(rare("a.status", "jobs", "disks"), rare("b.status", "jobs"), rare("c.status"))
    async with house.supervisor.running():
        await settle(house.backend)
        house.backend.hint("disks")
        await asyncio.sleep(0.01)
        assert methods(house.backend) == ["a.status"]
        await asyncio.sleep(5.0)
        house.backend.hint("jobs")
        await asyncio.sleep(5.0)
    assert sorted(methods(house.backend)) == ["a.status", "a.status", "b.status"]
    assert hints(house) == {"for_some": 2}


@virtual
async def test_a_hint_without_a_name_polls_every_source_one_after_the_other() -> None:
    house = House(*(rare(f"{letter}.status") for letter in "abcdef"))
    async with house.supervisor.running():
        await settle(house.backend)
        house.backend.hint()
        await asyncio.sleep(0.05)
        assert len(house.backend.exchanges) == 1
        await asyncio.sleep(5.0)
    assert sorted(methods(house.backend)) == [f"{letter}.status" for letter in "abcdef"]
    assert hints(house) == {"for_all": 1}


@virtual
async def test_a_name_that_nobody_wants_polls_nothing() -> None:
    house = House(rare("a.status", "jobs"))
    async with house.supervisor.running():
        await settle(house.backend)
        house.backend.hint("a.status")
        await asyncio.sleep(5.0)
    assert methods(house.backend) == []
    assert hints(house) == {"for_none": 1}


@virtual
async def test_any_number_of_hints_polls_a_source_once_a_second_and_the_last_is_not_lost() -> None:
    house = House(rare("a.status", "jobs"), rare("b.status", "disks"))
    async with house.supervisor.running():
        await settle(house.backend)
        house.backend.delay_s = 0.01
        began = asyncio.get_running_loop().time()
        for _ in range(43):
            house.backend.hint("jobs")
            await asyncio.sleep(0.1)
        house.backend.hint("disks")  # what one source has had does not hold another
        await asyncio.sleep(10.0)
    asked = [round(at - began, 2) for at, method in zip(times(house.backend), methods(house.backend), strict=True)]
    assert asked == [0.0, 1.0, 2.0, 3.0, 4.0, 4.3, 5.0]
    assert methods(house.backend)[5] == "b.status"


@virtual
async def test_a_hint_during_a_call_leads_to_one_more_after_it() -> None:
    house = House(rare("a.status", "jobs"))
    async with house.supervisor.running():
        await settle(house.backend)
        house.backend.delay_s = 1.5
        house.backend.hint("jobs")
        await asyncio.sleep(1.2)
        house.backend.hint("jobs")
        await asyncio.sleep(10.0)
    first, second = times(house.backend)
    assert second - first == pytest.approx(1.5, abs=0.01)


async def raises() -> AsyncIterator[str | None]:
    yield "jobs"
    raise RuntimeError("the cable\nis out")


async def ends() -> AsyncIterator[str | None]:
    yield "jobs"


async def no_text() -> AsyncIterator[Any]:
    yield 7


async def as_a_list() -> list[str]:
    return ["jobs"]


def at_once() -> AsyncIterator[str | None]:
    raise OSError("no such socket")


async def cancelled() -> AsyncIterator[str | None]:
    yield "jobs"
    raise asyncio.CancelledError


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (raises, r"RuntimeError('the cable\nis out')"),
        (ends, "expected hints without an end, got one"),
        (no_text, "expected a name or None as a hint, got int"),
        (as_a_list, "expected an asynchronous iterator from hints(), got coroutine"),
        (lambda: ["jobs"], "expected an asynchronous iterator from hints(), got list"),
        (at_once, "OSError('no such socket')"),
        (cancelled, "CancelledError()"),
    ],
)
@virtual
async def test_hints_that_fail_are_named_and_asked_for_again(given: Callable[[], Any], reason: str) -> None:
    backend = Strange(given, silent)
    house = House(rare("a.status", "jobs"), rare("b.status"), backend=backend)
    with capture_logs() as lines:
        async with house.supervisor.running():
            await asyncio.sleep(2.0)
            asked = Counter(methods(backend))
            assert asked["a.status"] > asked["b.status"] == 1, "nobody knows what changed meanwhile"
            await house.supervisor.poll("engine")
            await asyncio.sleep(1.0)
    [line] = [line for line in lines if line["log_level"] == "warning"]
    assert (line["backend"], line["reason"]) == ("engine", reason)
    assert hints(house)["failed"] == 1
    assert len(backend.asked) == 2
    assert 0.5 <= backend.asked[1] - backend.asked[0] <= 1.0


@virtual
async def test_hints_that_end_at_once_are_asked_for_more_and_more_seldom() -> None:
    backend = Strange(ends)
    house = House(rare("a.status", "jobs"), backend=backend)
    async with house.supervisor.running():
        await asyncio.sleep(600.0)
    assert 10 <= len(backend.asked) <= 30
    assert len(backend.exchanges) <= 1 + 2 * len(backend.asked)


@virtual
async def test_an_iterator_that_is_given_up_is_closed() -> None:
    closed = []

    async def wrong() -> AsyncIterator[Any]:
        try:
            yield 7
        finally:
            await asyncio.sleep(0.1)
            closed.append(asyncio.get_running_loop().time())

    house = House(rare("a.status"), backend=Strange(wrong, silent))
    async with house.supervisor.running():
        await asyncio.sleep(0.5)
        assert len(closed) == 1


@virtual
async def test_a_flood_is_read_no_faster_than_others_can_bear() -> None:
    read = 0

    async def flood() -> AsyncIterator[str | None]:
        nonlocal read
        while True:
            read += 1
            yield f"job {read}"

    backend = Strange(flood)
    house = House(source("a.status", interval_s=1.0, refresh_on=("jobs",)), backend=backend)
    with capture_logs() as lines:
        async with house.supervisor.running():
            await asyncio.sleep(20.5)
    assert 19 <= len(backend.exchanges) <= 22
    assert read <= 22_000
    assert [line["log_level"] for line in lines if line["log_level"] != "debug"] == ["warning"]
    assert hints(house)["too_many"] >= 20


@virtual
async def test_nothing_is_left_of_it_at_the_end() -> None:
    async def stubborn() -> AsyncIterator[str | None]:
        for _ in range(100):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1.0)
            yield "jobs"

    backend = Strange(stubborn)
    house = House(rare("a.status", "jobs"), backend=backend)
    async with house.supervisor.running():
        await settle(backend)
        await asyncio.sleep(1.3)  # a hint waits for its second
    assert asyncio.get_running_loop().time() < 5.0, "it took no more hints"
    backend.exchanges.clear()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.sleep(10.0)
    assert backend.exchanges == []


@virtual
async def test_a_backend_without_hints_needs_none() -> None:
    class Plain:
        def __init__(self, scripted: ScriptedBackend) -> None:
            self.call, self.aclose = scripted.call, scripted.aclose

    scripted = ScriptedBackend(lambda call: {"ok": True})
    house = House(rare("a.status"), backend=Plain(scripted))
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
    assert house.metrics.named("hint_taken") == []
    assert len(scripted.exchanges) == 1
