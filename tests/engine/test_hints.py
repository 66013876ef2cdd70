import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from programs import tidegate, until
from structlog.testing import capture_logs

from tidegate.cli.engine_process import free_port
from tidegate.engine.hints import Hints


class Listener:
    """Takes hints; `status` is what it answers, `heard` the tokens that came."""

    def __init__(self) -> None:
        self.status = 202
        self.heard: asyncio.Queue[str | None] = asyncio.Queue()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.heard.put_nowait(request.headers.get("Authorization"))
        return web.Response(status=self.status)


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    application = web.Application()
    application.router.add_post("/poll", listener.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    listener.url = f"http://127.0.0.1:{runner.addresses[0][1]}/poll"
    try:
        yield listener
    finally:
        await runner.cleanup()


@asynccontextmanager
async def sending(hints: Hints) -> AsyncIterator[None]:
    task = asyncio.create_task(hints.run())
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.wait({task})


async def test_changes_that_come_together_are_one_hint() -> None:
    async with listening() as listener, asyncio.timeout(30):
        hints = Hints(listener.url, pause_s=0.0)
        for _ in range(100):
            hints.changed()
        async with sending(hints):
            assert await listener.heard.get() is None
            hints.changed()
            await listener.heard.get()
            assert listener.heard.empty()


async def test_the_token_is_read_each_time(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with listening() as listener, asyncio.timeout(30):
        hints = Hints(listener.url, token_file=token, pause_s=0.0)
        hints.changed()  # no file yet: nothing is sent
        async with sending(hints):
            for text in ("one", "two"):
                token.write_text(f"{text}\n")
                hints.changed()
                assert await listener.heard.get() == f"Bearer {text}"


async def test_failures_are_forgotten() -> None:
    async with listening() as listener, asyncio.timeout(30):
        hints = Hints(listener.url, pause_s=0.0)
        async with sending(hints):
            for listener.status in (503, 404, 202):
                hints.changed()
                await listener.heard.get()
    hints = Hints(listener.url, pause_s=0.0)  # where nobody listens any more
    async with sending(hints):
        hints.changed()
        while hints._changed.is_set():
            await asyncio.sleep(0)


async def test_a_gateway_that_does_not_take_hints_is_named_once() -> None:
    async with listening() as listener, asyncio.timeout(30):
        hints = Hints(listener.url, pause_s=0.0)
        with capture_logs() as lines:
            async with sending(hints):
                for listener.status in (401, 401, 503, 202, 401):
                    hints.changed()
                    await listener.heard.get()
                while len(lines) < 3:
                    await asyncio.sleep(0)
    said = "hints are not taken by {}: status {}; it learns of changes when it polls"
    assert [line["event"] for line in lines] == [said.format(listener.url, status) for status in (401, 503, 401)]


@pytest.mark.parametrize("token", [b"\xff", b"two\nlines", None])
async def test_a_token_that_cannot_be_sent_is_said_and_tried_again(tmp_path: Path, token: bytes | None) -> None:
    file = tmp_path / "token"
    if token is not None:
        file.write_bytes(token)
    async with listening() as listener, asyncio.timeout(30):
        hints = Hints(listener.url, token_file=file, pause_s=0.0)
        with capture_logs() as lines:
            async with sending(hints):
                hints.changed()
                while not lines:
                    await asyncio.sleep(0)
                file.write_text("good")
                hints.changed()
                assert await listener.heard.get() == "Bearer good"
    [line] = lines
    assert f"{file} holds no token that can be sent" in line["event"]


@pytest.mark.parametrize("url", ["gateway:12080", "gateway", "http://"])
async def test_what_is_no_url_is_said(url: str) -> None:
    hints = Hints(url, pause_s=0.0)
    with capture_logs() as lines:
        async with sending(hints), asyncio.timeout(30):
            hints.changed()
            while not lines:
                await asyncio.sleep(0)
    assert lines[0]["event"].startswith(f"hints are not taken by {url}: it is no URL;")


GATEWAY = """
[backends.engine]
url = "{engine}"
[sources."compression.update"]
backend = "engine"
method = "compression.list"
items = "/jobs"
key = "id"
interval_s = 3600.0
[auth]
mode = "token"
[[auth.tokens]]
token_file = "token"
roles = ["publisher", "subscriber"]
"""


@pytest.mark.real
def test_a_gateway_that_seldom_polls_hears_of_a_job_at_once(tmp_path: Path) -> None:
    """Only hints can have told it: of a job that was submitted after its first poll."""
    token = "correct-horse-battery-staple-0123456789"
    (tmp_path / "token").write_text(token)
    (tmp_path / "file").write_text("tide")
    port = free_port(preferred=0)
    hints = f"http://127.0.0.1:{port}/api/v1/backends/engine/poll"
    arguments = ("engine", "--port", "0", "--notify-url", hints, "--notify-token-file", "token")
    with tidegate(*arguments, folder=tmp_path) as engine:
        url = until(lambda: next((line["event"].split()[-1] for line in engine.log), None))
        (tmp_path / "tidegate.toml").write_text(GATEWAY.format(engine=url))
        with tidegate("serve", "--config", "tidegate.toml", "--port", str(port), folder=tmp_path) as gateway:
            environ = {"TIDEGATE_TOKEN": token, "TIDEGATE_URL": gateway.url}
            types = "source.freshness,compression.update"
            with tidegate("watch", "--types", types, folder=tmp_path, **environ) as watcher:
                until(lambda: any('"stale":false' in line for line in list(watcher.out)))
                with tidegate("engine", "submit", "file", "--url", url, folder=tmp_path) as submitted:
                    assert submitted.wait() == 0
                until(lambda: any('"state":"done"' in line for line in list(watcher.out)), what=gateway.err)


async def test_without_an_address_there_is_nothing_to_do() -> None:
    async with asyncio.timeout(30):
        await Hints(None).run()
