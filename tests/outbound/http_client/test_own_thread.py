"""A blocking function in a thread of its own: shared by those who wait, and in nobody's way."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from scripted_http import answering, http_response, scripted

from tidegate import secret_place
from tidegate.errors import NoCredentials, Problem
from tidegate.outbound.backends import HttpOptions, JsonRpcBackend
from tidegate.outbound.http_client import own_thread
from tidegate.outbound.http_client.own_thread import OwnThread
from tidegate.ports import Call
from tidegate.secret import Secret
from tidegate.secret_place import SecretPlace

PATIENCE_S = 20.0


class Hanging:
    """Work that ends when `go_on` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = threading.Event()

    def __call__(self) -> int:
        self.begun += 1
        self.go_on.wait(PATIENCE_S)
        return self.begun


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.go_on.set()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def test_one_run_at_a_time_and_who_comes_meanwhile_waits_for_it(hanging: Hanging) -> None:
    own = OwnThread(hanging, name="hang")
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await own.run()
    waiting = [asyncio.ensure_future(own.run()) for _ in range(3)]
    await eventually(lambda: hanging.begun == 1)
    hanging.go_on.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert await own.run() == 2
    assert [thread.daemon for thread in threads("hang")] == [True]


async def test_an_error_reaches_all_who_wait_and_nobody_who_does_not() -> None:
    def failing() -> None:
        raise LookupError("lost")

    own = OwnThread(failing, name="fail")
    for outcome in await asyncio.gather(own.run(), own.run(), return_exceptions=True):
        assert isinstance(outcome, LookupError)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await own.run()
    with pytest.raises(LookupError, match="lost"):
        await own.run()


async def test_the_thread_ends_without_work_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_thread, "IDLE_S", 0.001)
    own = OwnThread(threading.get_ident, name="rest")
    for _ in range(3):
        await own.run()
        await eventually(lambda: not threads("rest"))
    for _ in range(300):  # about as long as the thread takes to end
        async with asyncio.timeout(PATIENCE_S):
            await own.run()
        await asyncio.sleep(0.001)


def test_the_end_waits_for_no_work(hanging: Hanging) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await OwnThread(hanging, name="hang").run()

    asyncio.run(give_up())
    assert not hanging.go_on.is_set()


async def test_no_thread_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    backend = JsonRpcBackend(HttpOptions("http://h/", bearer_token_file=tmp_path / "token"))
    (tmp_path / "token").write_text("t")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(NoCredentials, match="got no thread to read"):
            await backend.prepare()
    await backend.prepare()


async def test_a_token_file_that_hangs_stops_its_own_backend_only(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = secret_place.read

    def slow(place: SecretPlace, environ: Mapping[str, str]) -> Secret | Problem:
        if place.file is not None and place.file.name == "gone":
            hanging()
        return read(place, environ)

    monkeypatch.setattr(secret_place, "read", slow)
    for name in ("gone", "here"):
        (tmp_path / name).write_text("t")
    async with scripted(answering(http_response(b'{"jsonrpc":"2.0","id":1,"result":1}'))) as server:
        stuck, well = (
            JsonRpcBackend(HttpOptions(server.url, bearer_token_file=tmp_path / name)) for name in ("gone", "here")
        )
        for _ in range((os.cpu_count() or 1) + 10):  # more than the event loop has threads
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await stuck.prepare()
        await asyncio.to_thread(lambda: None)
        assert await well.call([Call("a.b")])
        hanging.go_on.set()
        await stuck.prepare()
        assert hanging.begun <= 2
        for backend in (stuck, well):
            await backend.aclose()


async def test_threads_of_the_event_loop_that_all_hang_stop_no_backend(hanging: Hanging, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    stuck = [asyncio.ensure_future(asyncio.to_thread(hanging)) for _ in range((os.cpu_count() or 1) + 10)]
    async with scripted(answering(http_response(b'{"jsonrpc":"2.0","id":1,"result":1}'))) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        backend = JsonRpcBackend(HttpOptions(url, bearer_token_file=tmp_path / "token"))
        assert await backend.call([Call("a.b")])
        await backend.aclose()
    hanging.go_on.set()
    await asyncio.gather(*stuck)
