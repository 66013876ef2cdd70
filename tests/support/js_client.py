"""The JavaScript client in a Node process of its own, and what it told so far."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parent
PATIENCE_S = 60.0
LONGEST_LINE = 1 << 24

Line = dict[str, Any]
"""`at` in Unix ms, and one of `event`, `gap`, `status`, `values`, `asked`, `ready`, `refused`."""

needs_ws = pytest.mark.skipif(
    not shutil.which("node") or not (SUPPORT.parents[1] / "node_modules/ws").exists(),
    reason="no Node with ws: see tools/install-check-tools",
)


class JsClient:
    """`lines` is all that it has said."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self.lines: list[Line] = []
        self._process = process
        self._said = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(json.loads(line))
            self._said.set()

    def told(self, kind: str) -> list[Any]:
        """What it said of that kind, in order."""
        return [line[kind] for line in self.lines if kind in line]

    @property
    def state(self) -> str:
        states = self.told("status")
        return str(states[-1]["state"]) if states else "connecting"

    async def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """The first true value of `condition`."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := condition()):
                self._said.clear()
                if self._reader.done():
                    break
                await self._said.wait()
        assert value, f"{self.name} {what}: {self.lines[-5:]}"
        return value

    async def is_now(self, state: str, *, after: int = 0) -> Line:
        """Wait until its status is `state`, said behind the first `after` lines."""

        def found() -> Line | None:
            lines = [line for line in self.lines[after:] if line.get("status", {}).get("state") == state]
            return lines[0] if lines else None

        result: Line = await self.until(found, f"never was {state}")
        return result

    async def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        await self._process.stdin.drain()

    async def values(self) -> list[Line]:
        """Its store."""
        before = len(self.told("values"))
        await self.tell("values")
        await self.until(lambda: len(self.told("values")) > before, "has no values")
        found: list[Line] = self.told("values")[-1]
        return found

    async def leave(self) -> None:
        """Close the client. Then nothing keeps its process alive."""
        await self.tell("close")
        async with asyncio.timeout(PATIENCE_S):
            code = await self._process.wait()
        await self._reader
        assert code == 0, f"{self.name} ended with {code}"


@asynccontextmanager
async def js_client(url: str, **options: Any) -> AsyncIterator[JsClient]:
    """A client that follows everything, by ``transport="websocket"`` (of `ws`), "sse", or "auto"."""
    script = SUPPORT / "follow-with-client.mjs"
    process = await asyncio.create_subprocess_exec(
        "node",
        "--no-warnings",
        script,
        json.dumps({"url": url, **options}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
    )
    try:
        client = JsClient(process, options.get("transport", "auto"))
        yield client
        await client.leave()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def twice(events: Iterable[Line]) -> list[tuple[Any, ...]]:
    """The live events that came more than once."""
    seen: set[tuple[Any, ...]] = set()
    found = []
    for event in events:
        name = (event.get("seq"), event["type"], event.get("key"), event["timestamp"])
        if event.get("snapshot") or "seq" not in event:
            continue
        if name in seen:
            found.append(name)
        seen.add(name)
    return found
