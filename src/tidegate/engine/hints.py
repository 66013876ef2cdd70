"""Sends hints: tells a gateway that something changed, so that it polls now instead of at its next tick.

Hints are best effort. At most one is sent every `PAUSE_S`, and a failed hint is not retried, because the gateway polls
anyway. If the gateway refuses hints, that is logged once, and again only after one was accepted.
"""

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import aiohttp
import structlog

from tidegate.engine.threads import in_thread
from tidegate.token_file import NoToken, read_token

PAUSE_S = 0.3
TIMEOUT_S = 2.0

log = structlog.get_logger("tidegate.engine")


class Hints:
    """Posts to `url` after `changed` was called, while `run` runs. Reads the token in `token_file` for each post."""

    def __init__(self, url: str | None, *, token_file: Path | None = None, pause_s: float = PAUSE_S) -> None:
        self._url = url
        self._token_file = token_file
        self._pause_s = pause_s
        self._changed = asyncio.Event()
        self._refused: str | None = None

    def changed(self) -> None:
        """Request a hint. Returns at once; calls in quick succession are combined."""
        self._changed.set()

    async def run(self) -> None:
        """Send hints until cancelled."""
        if self._url is None:
            return
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            while True:
                await self._changed.wait()
                self._changed.clear()
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # no gateway is running, or not yet
                    self._note(await self._sent(session, self._url))
                await asyncio.sleep(self._pause_s)

    async def _sent(self, session: aiohttp.ClientSession, url: str) -> str | None:
        """Send a hint. Return why it was refused, or None if it was accepted."""
        try:
            headers = await self._headers()
        except (OSError, NoToken) as error:
            return f"{self._token_file} holds no token that can be sent: {error}"
        try:
            async with session.post(url, headers=headers, allow_redirects=False) as response:
                return None if response.status == 202 else f"status {response.status}"
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return "it is no URL"

    async def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        return {"Authorization": f"Bearer {await in_thread(partial(read_token, self._token_file))}"}

    def _note(self, refused: str | None) -> None:
        if refused is not None and refused != self._refused:
            log.warning(f"hints are not taken by {self._url}: {refused}; it learns of changes when it polls")
        self._refused = refused
