"""Gateways that are killed at random moments: the next one hands out what a client had seen a second earlier, or newer.

Real gateways with real clients. Each gateway is a process of its own, forked from one that has imported everything
already, so that two hundred of them start in no time.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from tidegate.verify.audit import RESOLUTION_S
from tidegate.verify.deployment import GATEWAY_READY
from tidegate.verify.frames import Frame, read_frame, seconds

pytestmark = pytest.mark.real

KILLS = 200
LANES = 8
"""State directories, each with a gateway, a backend and a client."""

SAVED_S = 1.0
"""A good value is on disk so long after it came."""

ITEMS = 5
"""They change together, so they are saved together or not at all."""

PATIENCE_S = 60.0

NURSERY = """
import os, sys
import tidegate.app, tidegate.cli.serving, tidegate.cli.signals
from tidegate import cli

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(cli.main(["serve", "--config", sys.argv[1]]))
    print(child, flush=True)
    os.waitpid(child, 0)
"""


async def test_two_hundred_kills_lose_nothing_that_a_client_had_seen_a_second_earlier(tmp_path: Path) -> None:
    await asyncio.gather(*(live_and_die(tmp_path / str(lane), seed=lane) for lane in range(LANES)))


async def live_and_die(directory: Path, *, seed: int) -> None:
    """One lane: a gateway after the other on one state directory."""
    rng = random.Random(seed)
    directory.mkdir()
    async with Backend().serving() as backend, nursery(directory, backend.url) as gateways:
        saved = 0
        seen: dict[int, str] = {}
        for life in range(KILLS // LANES):
            length_s = rng.uniform(SAVED_S, 1.6 * SAVED_S) if life % 8 == 7 else rng.uniform(0.0, 0.3)
            backend.hold()
            pid, url = await started(gateways)
            async with open_websocket(f"{url.replace('http', 'ws', 1)}/ws?types=job.status", proxy=None) as websocket:
                saved = judge(await handed(websocket), saved, seen, backend)
                backend.go_on()
                heard, killed_at = await heard_until_killed(websocket, pid, length_s)
            seen = {backend_number(frame): frame.as_of or "" for _, frame in heard}
            surely_saved = [backend_number(frame) for at, frame in heard if at < killed_at - SAVED_S]
            saved = max([saved, *surely_saved])
        assert saved > 0, "no gateway lived for long enough"


def judge(restored: Sequence[Frame], saved: int, seen: dict[int, str], backend: "Backend") -> int:
    """What a new gateway hands out before its backend has said a word; the number of that.

    `saved` is the number that must have been on disk, `seen` the `as_of` of each that the client was told live.
    """
    if not restored:
        assert saved == 0, f"nothing is left, and {saved} was told more than a second before the kill"
        return 0
    numbers = {backend_number(frame) for frame in restored}
    assert len(numbers) == 1, f"one transaction holds all items or none: {sorted(numbers)}"
    number = numbers.pop()
    assert len(restored) == ITEMS
    assert number >= saved, f"{number} is left, and {saved} was told more than a second before the kill"
    assert {(frame.stale, frame.error_code, frame.snapshot) for frame in restored} == {(True, "RESTORED", True)}
    (as_of,) = {frame.as_of or "" for frame in restored}
    assert seen.get(number, as_of) == as_of, "its age is the true one"
    assert seconds(as_of) <= backend.asked_at[number] + RESOLUTION_S
    return number


def backend_number(frame: Frame) -> int:
    """Which of the backend's answers `frame` is an item of."""
    return msgspec.json.decode(frame.data, type=dict[str, int])["n"]


async def handed(websocket: ClientConnection) -> list[Frame]:
    """The snapshots of a new connection."""
    frames: list[Frame] = []
    async with asyncio.timeout(PATIENCE_S):
        while (frame := read_frame(await websocket.recv())).type != "synced":
            frames.append(frame)
    return [frame for frame in frames if frame.type != "welcome"]


async def heard_until_killed(
    websocket: ClientConnection, pid: int, length_s: float
) -> tuple[list[tuple[float, Frame]], float]:
    """Live events and when they came, until the gateway is killed after `length_s`; and when it was."""
    heard: list[tuple[float, Frame]] = []

    async def hear() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = read_frame(await websocket.recv())
                if frame.stale is False:
                    heard.append((time.monotonic(), frame))

    hearing = asyncio.create_task(hear())
    await asyncio.sleep(length_s)
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        await hearing
    return heard, killed_at


class Backend:
    """Answers with a list whose items all carry the number of the answer; `asked_at` is when each was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.asked_at: dict[int, float] = {}
        self._may_answer = asyncio.Event()

    def hold(self) -> None:
        """Answer no more, until `go_on`."""
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Backend"]:
        app = web.Application()
        app.router.add_post("/rpc", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/rpc"
        try:
            yield self
        finally:
            self.go_on()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        came_at = time.time()
        asked = await request.json()
        await self._may_answer.wait()
        number = len(self.asked_at) + 1
        self.asked_at[number] = came_at
        items = [{"id": item, "n": number} for item in range(ITEMS)]
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": items})


@contextlib.asynccontextmanager
async def nursery(directory: Path, backend_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    config = directory / "tidegate.toml"
    config.write_text(f"""\
[server]
port = 0
state_dir = "state"
[backends.jobs]
url = "{backend_url}"
timeout_s = 60.0
[sources."job.status"]
backend = "jobs"
method = "jobs"
items = ""
key = "id"
interval_s = 0.05
""")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NURSERY, str(config)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def started(nursery: asyncio.subprocess.Process) -> tuple[int, str]:
    """The process id of a new gateway, and where it listens."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    assert nursery.stderr is not None
    nursery.stdin.write(b"\n")
    async with asyncio.timeout(PATIENCE_S):
        pid = int(await nursery.stdout.readline())
        while not (match := GATEWAY_READY.search((await nursery.stderr.readline()).decode())):
            assert not nursery.stderr.at_eof()
        return pid, match[1]
