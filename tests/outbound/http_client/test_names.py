import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_http import answering, http_response, scripted
from yarl import URL

from tidegate.errors import Disconnected
from tidegate.outbound.backends.secrets import CredentialsReader
from tidegate.outbound.http_client import HttpClient, HttpOptions
from tidegate.outbound.http_client.names import looked_up

PATIENCE_S = 20.0


class Resolver:
    """Answers for no name below ``slow.invalid`` until `answer` is set; every other name has one address."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()

    def __call__(self, host: str, port: int, **_: object) -> list[object]:
        self.asked.append(host)
        if host.endswith("slow.invalid"):
            self.answer.wait(PATIENCE_S)
        if host.startswith("missing."):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.answer.set()


async def test_a_resolver_that_does_not_answer_for_others_is_in_nobodys_way(resolver: Resolver) -> None:
    slow = [asyncio.ensure_future(looked_up(f"b{n}.slow.invalid", 80)) for n in range(40)]
    async with asyncio.timeout(PATIENCE_S):
        while len(resolver.asked) < len(slow):
            await asyncio.sleep(0)
        [found] = await looked_up("localhost", 80)
    assert found[4] == ("127.0.0.1", 80)
    assert not resolver.answer.is_set()
    resolver.answer.set()
    assert await asyncio.gather(*slow) == [[found]] * len(slow)


async def test_a_name_that_is_looked_up_already_is_not_looked_up_again(resolver: Resolver) -> None:
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await looked_up("missing.slow.invalid", 80)
    waiting = [asyncio.ensure_future(looked_up("missing.slow.invalid", 80)) for _ in range(2)]
    await asyncio.sleep(0)
    resolver.answer.set()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, socket.gaierror)
    assert resolver.asked == ["missing.slow.invalid"]
    with pytest.raises(socket.gaierror):
        await looked_up("missing.slow.invalid", 80)
    assert len(resolver.asked) == 2


def test_the_end_waits_for_no_resolver(resolver: Resolver) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await looked_up("b.slow.invalid", 80)

    asyncio.run(give_up())
    assert not resolver.answer.is_set()
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "look up b.slow.invalid"] == [True]


@pytest.mark.parametrize("name", ["a..b", "a" * 70 + ".example"])
async def test_a_name_that_is_none_is_told_as_such(name: str) -> None:
    with pytest.raises(socket.gaierror, match="no host name"):
        await looked_up(name, 80)


async def test_no_thread_to_look_a_name_up_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="no thread"):
            await looked_up("localhost", 80)
    assert await looked_up("localhost", 80)


async def test_calls_and_knocks_wait_for_one_look_up_and_their_deadlines_end_only_the_waiting(
    resolver: Resolver,
) -> None:
    async with scripted(answering(http_response(b"{}"))) as server:
        url = URL(f"http://engine.slow.invalid:{server.port}/")
        client, reloaded = HttpClient(HttpOptions(str(url))), HttpClient(HttpOptions(str(url)))
        for _ in range(3):
            for each in (client, reloaded):
                for waiting in (each.fetch("GET", url, credentials={}), each.knock()):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0):
                            await waiting
        last = [
            asyncio.ensure_future(client.knock()),
            asyncio.ensure_future(reloaded.fetch("GET", url, credentials={})),
        ]
        await asyncio.sleep(0)
        resolver.answer.set()
        await asyncio.gather(*last)
        assert resolver.asked == ["engine.slow.invalid"]
        for each in (client, reloaded):
            await each.aclose()


async def test_names_that_hang_are_in_the_way_of_no_other_backend_and_no_file(
    resolver: Resolver, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("t")
    slow = [HttpClient(HttpOptions(f"http://b{n}.slow.invalid/")) for n in range(40)]
    knocks = [asyncio.ensure_future(client.knock()) for client in slow]
    async with asyncio.timeout(PATIENCE_S), scripted(answering(http_response(b"{}"))) as server:
        while len(resolver.asked) < len(slow):
            await asyncio.sleep(0)
        options = HttpOptions(f"http://well.invalid:{server.port}/", bearer_token_file=tmp_path / "token")
        well = HttpClient(options)
        assert await asyncio.to_thread((tmp_path / "token").read_text) == "t"
        assert await well.fetch("GET", well.url, credentials=(await CredentialsReader(options).read()).headers) == b"{}"
        for client in (well, *slow):
            await client.aclose()
        for outcome in await asyncio.gather(*knocks, return_exceptions=True):
            assert isinstance(outcome, Disconnected)
    assert not resolver.answer.is_set()
