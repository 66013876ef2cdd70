"""A clock whose timers hold when the machine sleeps. The machines of these tests sleep without any time passing."""

import asyncio
import time
from collections.abc import Callable

import pytest
from house import virtual

from tidegate.core.instant import Instant
from tidegate.outbound.clock import LOOK_S, MANY_TIMERS, SystemClock, boot_time
from tidegate.ports import Timer


class Machine:
    """A machine that sleeps when it is told to. Its event loop does not notice."""

    def __init__(self) -> None:
        self.asleep_s = 0.0
        self.clock = SystemClock(mono=lambda: self.now, wall=lambda: 1e9 + self.now)
        self.called: dict[str, float] = {}

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.asleep_s

    def sleeps(self, seconds: float) -> None:
        self.asleep_s += seconds

    def call_at(self, mono: float, name: str) -> None:
        self.clock.call_at(mono, self.noting(name))

    def noting(self, name: str) -> Callable[[], None]:
        def note() -> None:
            assert name not in self.called
            self.called[name] = self.now

        return note


@virtual
async def test_the_time_asleep_counts_and_no_wall_clock_was_set() -> None:
    machine = Machine()
    before = machine.clock.now()
    machine.sleeps(3600.0)
    after = machine.clock.now()
    assert after == Instant(before.mono + 3600.0, before.wall + 3600.0)
    assert before.step_to(after) == 0.0


@pytest.mark.parametrize("remaining_s", [0.9, 1.1, 30.0, 3600.0])
def test_what_became_due_while_asleep_is_late_by_a_second_at_most(remaining_s: float) -> None:
    @virtual
    async def test() -> None:
        machine = Machine()
        machine.call_at(machine.now + 10.0 + remaining_s, "call")
        sleeper = asyncio.create_task(machine.clock.sleep_until(machine.now + 10.0 + remaining_s))
        await asyncio.sleep(10.0)
        machine.sleeps(7200.0)
        woke = machine.now
        await sleeper
        assert woke < machine.now <= woke + LOOK_S
        await asyncio.sleep(0)
        assert woke < machine.called["call"] <= woke + LOOK_S

    test()


@virtual
async def test_what_is_due_after_the_machine_woke_is_called_at_its_time() -> None:
    machine = Machine()
    due = machine.now + 3700.25
    machine.call_at(due, "call")
    machine.sleeps(3600.0)
    await asyncio.sleep(100.0)
    assert not machine.called
    await asyncio.sleep(1.0)
    assert machine.called["call"] == pytest.approx(due, abs=0.002)


@virtual
async def test_timers_are_called_at_their_times_whatever_their_order() -> None:
    machine = Machine()
    begin = machine.now
    for after_s in (7.5, 0.5, 1.5, 3.25, 1.0, 60.0, 1.5001):
        machine.call_at(begin + after_s, str(after_s))
    await machine.clock.sleep_until(begin + 61.0)
    assert list(machine.called) == ["0.5", "1.0", "1.5", "1.5001", "3.25", "7.5", "60.0"]
    for name, at in machine.called.items():
        assert at - begin == pytest.approx(float(name), abs=0.002)


@virtual
async def test_it_looks_once_a_second_while_there_is_a_distant_timer_and_then_no_more() -> None:
    machine, looks = Machine(), []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(delay: float, *given: object) -> asyncio.TimerHandle:
        looks.append(delay)
        return call_later(delay, *given)  # type: ignore[arg-type]

    loop.call_later = noted  # type: ignore[method-assign, assignment]
    for _ in range(100):
        machine.clock.call_at(machine.now + 10.0, lambda: None)
    await asyncio.sleep(20.0)
    assert len([delay for delay in looks if delay == LOOK_S]) == 10
    assert len(looks) <= 12, "the sleep of this test is one, the last bit before they are due may be another"
    machine.call_at(machine.now + 10.0, "later")
    await asyncio.sleep(11.0)
    assert list(machine.called) == ["later"]


@virtual
async def test_cancelled_timers_are_not_kept_until_their_time_comes() -> None:
    machine = Machine()
    machine.call_at(machine.now + 3600.0, "kept")
    for _ in range(20 * MANY_TIMERS):
        machine.clock.call_at(machine.now + 1800.0, lambda: None).cancel()
    assert machine.clock._distant is not None
    assert len(machine.clock._distant._heap) <= MANY_TIMERS + 2
    await machine.clock.sleep_until(machine.now + 3601.0)
    assert list(machine.called) == ["kept"]


@virtual
async def test_a_timer_that_another_one_cancels_at_the_same_time_is_not_called() -> None:
    machine = Machine()
    due = machine.now + 5.0
    timers: list[Timer] = []

    def cancel_all() -> None:
        for timer in timers:
            timer.cancel()

    machine.clock.call_at(due, cancel_all)
    timers.append(machine.clock.call_at(due, machine.noting("second")))
    machine.call_at(due, "third")
    await asyncio.sleep(6.0)
    assert list(machine.called) == ["third"]


@virtual
async def test_a_call_that_fails_keeps_no_other_from_being_made() -> None:
    machine, failures = Machine(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail() -> None:
        raise ZeroDivisionError

    machine.clock.call_at(machine.now + 5.0, fail)
    machine.call_at(machine.now + 5.0, "second")
    machine.call_at(machine.now + 9.0, "third")
    await asyncio.sleep(10.0)
    assert list(machine.called) == ["second", "third"]
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


def test_one_clock_may_serve_one_loop_after_another() -> None:
    machine = Machine()

    @virtual
    async def test() -> None:
        machine.clock.call_at(machine.now + 3600.0, lambda: None)
        async with asyncio.timeout(20.0):
            await machine.clock.sleep_until(machine.now + 10.0)

    test()
    test()


def test_without_a_boot_time_clock_it_is_the_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_time()() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5.0)
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert boot_time() is time.monotonic
