import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tidegate.cli import hangups as module
from tidegate.cli.hangups import reloading_on_hangup
from tidegate.errors import ConfigError, NothingToReload, Problem, ReloadUnderWay
from tidegate.hangup import Hangups


@pytest.fixture
def hangups() -> Iterator[Hangups]:
    before = signal.getsignal(signal.SIGHUP)
    caught = Hangups()
    caught.catch()
    yield caught
    signal.signal(signal.SIGHUP, before)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


class Reloading:
    """Reloads that end when `let_go` is called, or fail with the next of `errors`. `began` counts them."""

    def __init__(self, *errors: Exception | None) -> None:
        self.began = 0
        self.running = 0
        self.most = 0
        self.changed = asyncio.Condition()
        self._errors = list(errors)
        self._go = asyncio.Semaphore(0)

    def let_go(self, times: int = 1) -> None:
        for _ in range(times):
            self._go.release()

    async def until_begun(self, times: int) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: self.began >= times)

    async def __call__(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        async with self.changed:
            self.began += 1
            self.changed.notify_all()
        try:
            await self._go.acquire()
            if self._errors and (error := self._errors.pop(0)) is not None:
                raise error
        finally:
            self.running -= 1


async def test_a_storm_causes_the_one_that_runs_and_one_more(hangups: Hangups) -> None:
    reload = Reloading()
    async with reloading_on_hangup(reload, asyncio.Event(), hangups):
        hang_up()
        await reload.until_begun(1)
        for _ in range(50):
            hang_up()
            await asyncio.sleep(0)
        assert reload.began == 1
        reload.let_go(3)
        await reload.until_begun(2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (reload.began, reload.most) == (2, 1)


async def test_one_that_came_before_is_carried_out(hangups: Hangups) -> None:
    hang_up()
    reload = Reloading()
    async with reloading_on_hangup(reload, asyncio.Event(), hangups):
        await reload.until_begun(1)


async def test_whatever_becomes_of_one_the_next_is_carried_out(
    hangups: Hangups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    refused = ConfigError([Problem("a", "b", "c")])
    reload = Reloading(refused, RuntimeError("boo"), NothingToReload("no file"), ReloadUnderWay("wait"), None)
    reload.let_go(6)
    with capture_logs() as logs:
        async with reloading_on_hangup(reload, asyncio.Event(), hangups):
            for number in (1, 2, 3):
                hang_up()
                await reload.until_begun(number)
            hang_up()
            await reload.until_begun(5)  # the fourth was under way, so it was tried again by itself
    assert [(line["event"], line["reason"]) for line in logs] == [("SIGHUP ignored", "no file")]


async def test_none_is_carried_out_during_a_drain(hangups: Hangups) -> None:
    reload, stopped = Reloading(), asyncio.Event()
    stopped.set()
    with capture_logs() as logs:
        async with reloading_on_hangup(reload, stopped, hangups):
            hang_up()
            async with asyncio.timeout(20):
                while not logs:
                    await asyncio.sleep(0.001)
    assert reload.began == 0
    assert logs == [{"event": "SIGHUP ignored", "reason": "the gateway is draining", "log_level": "info"}]


async def test_leaving_ends_one_that_waits(hangups: Hangups) -> None:
    reload = Reloading()
    async with reloading_on_hangup(reload, asyncio.Event(), hangups):
        hang_up()
        await reload.until_begun(1)
    assert reload.running == 0
