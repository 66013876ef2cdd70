"""The page in Firefox, driven by puppeteer-core over WebDriver BiDi."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parent
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PATIENCE_S = 60.0
LONGEST_LINE = 1 << 20

needs_firefox = pytest.mark.skipif(
    FIREFOX is None or not shutil.which("node") or not (SUPPORT.parents[1] / "node_modules/puppeteer-core").exists(),
    reason="no Firefox, or no Node with puppeteer-core: see tools/install-check-tools",
)


class FirefoxPage:
    """An open page. `version` is the browser's name and version, `said` what the page had said when it was closed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.version = ""
        self.said: list[str] = []

    async def evaluate(self, expression: str) -> Any:
        """The value of a one-line expression, which may be a promise."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{expression}\n".encode())
        return await self.hears()

    async def until(self, expression: str) -> Any:
        """The first true value of `expression`."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := await self.evaluate(expression)):
                await asyncio.sleep(0.05)
        return value

    async def hears(self) -> Any:
        """The next line that the driver prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line, "the driver of Firefox has ended"
        return json.loads(line)

    async def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.said = await self.hears()


@asynccontextmanager
async def firefox(url: str) -> AsyncIterator[FirefoxPage]:
    """The page at `url`, in a new Firefox. When the context is left, it has ended."""
    assert FIREFOX is not None
    process = await asyncio.create_subprocess_exec(
        "node",
        SUPPORT / "firefox-page.mjs",
        FIREFOX,
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
    )
    try:
        page = FirefoxPage(process)
        page.version = await page.hears()
        yield page
        await page.leave()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
