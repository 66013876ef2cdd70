"""Telling a gateway that something changed, so that it polls now and not at its next tick.

A hint is worth little and costs little: it is sent at most every `PAUSE_S`, and one that fails is forgotten, since the
gateway polls anyway.
"""

import asyncio
import contextlib
from pathlib import Path

import aiohttp
import structlog

from tidegate.engine.threads import in_thread

PAUSE_S = 0.3
TIMEOUT_S = 2.0

log = structlog.get_logger("tidegate.engine")


class Hints:
    """Posts to `url` after `changed` was called, while `run` runs. The token in `token_file` is read for each post."""

    def __init__(self, url: str | None, *, token_file: Path | None = None, pause_s: float = PAUSE_S) -> None:
        self._url = url
        self._token_file = token_file
        self._pause_s = pause_s
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something changed. Returns at once."""
        self._changed.set()

    async def run(self) -> None:
        """Send hints until cancelled."""
        if self._url is None:
            return
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            while True:
                await self._changed.wait()
                self._changed.clear()
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError):
                    await self._send(session, self._url)
                await asyncio.sleep(self._pause_s)

    async def _send(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {(await in_thread(self._token_file.read_text)).strip()}"
        async with session.post(url, headers=headers, allow_redirects=False) as response:
            if response.status != 202:
                log.debug("hint refused", url=url, status=response.status)
