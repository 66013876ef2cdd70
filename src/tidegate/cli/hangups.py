"""Reloads the configuration of a running gateway at each SIGHUP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog

from tidegate.errors import NothingToReload, ReloadUnderWay
from tidegate.hangup import HANGUPS, Hangups

RETRY_S = 0.05
"""After so many seconds a reload is tried again if another one was under way, which somebody else had asked for."""

log = structlog.get_logger("tidegate.reload")


@asynccontextmanager
async def reloading_on_hangup(
    reload: Callable[[], Awaitable[object]], stopped: asyncio.Event, hangups: Hangups = HANGUPS
) -> AsyncIterator[None]:
    """Call `reload` at each SIGHUP while the context is open, and once for those that came before it.

    One reload follows the other. Signals that come during one cause one more, so that the last of them has the file
    read again, however many there were. None is caused once `stopped` is set: then the gateway drains.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    with hangups.told_to(partial(loop.call_soon_threadsafe, asked.set)):
        task = asyncio.create_task(_reload_whenever(asked, reload, stopped), name="reload on SIGHUP")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _reload_whenever(
    asked: asyncio.Event, reload: Callable[[], Awaitable[object]], stopped: asyncio.Event
) -> None:
    while True:
        await asked.wait()
        asked.clear()
        if stopped.is_set():
            log.info("SIGHUP ignored", reason="the gateway is draining")
            continue
        try:
            await reload()
        except NothingToReload as error:
            log.info("SIGHUP ignored", reason=str(error))
        except ReloadUnderWay:
            await asyncio.sleep(RETRY_S)
            asked.set()
        except Exception:  # noqa: BLE001, S110 - whatever it is, the reload has logged and recorded it
            pass
