"""The adapter against a real OVSDB server, which is killed, stopped and started again."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw
from ovsdb import Ovsdb, needs_ovsdb
from rpc_server import RpcServer, rpc_backend

from tidegate.errors import Disconnected
from tidegate.outbound.backends.persistent.backend import RpcBackend
from tidegate.outbound.backends.persistent.options import RpcSession
from tidegate.ports import Call

pytestmark = [pytest.mark.real, needs_ovsdb]

PORTS = Call("transact", Raw(b'["Switch",{"op":"select","table":"Port","where":[],"columns":["name","up"]}]'))
MONITOR = RpcSession(on_connect=(Call("monitor", Raw(b'["Switch","ports",{"Port":{"columns":["up"]}}]')),))


@pytest.fixture
def ovsdb(tmp_path: Path) -> Iterator[Ovsdb]:
    server = Ovsdb(tmp_path)
    server.start()
    server.insert("eth0")
    yield server
    server.kill()


@contextlib.asynccontextmanager
async def connected(ovsdb: Ovsdb) -> AsyncIterator[RpcBackend]:
    async with rpc_backend(RpcServer(ovsdb.url), version="1.0", session=MONITOR) as backend:
        yield backend


async def ports(backend: RpcBackend) -> dict[str, bool]:
    async with asyncio.timeout(10):
        [answer] = await backend.call([PORTS])
    assert isinstance(answer, Raw), answer
    rows = msgspec.json.decode(answer)[0]["rows"]
    return {row["name"]: row["up"] for row in rows}


async def test_rows_are_read_and_a_change_is_a_hint_of_the_monitor(ovsdb: Ovsdb) -> None:
    async with connected(ovsdb) as backend:
        assert await ports(backend) == {"eth0": True}
        await asyncio.to_thread(ovsdb.update, "eth0", up=False)
        hints = backend.hints()
        async with asyncio.timeout(10):
            assert [await anext(hints), await anext(hints)] == ["update", "ports"]
        assert await ports(backend) == {"eth0": False}


async def test_it_is_killed_and_started_again(ovsdb: Ovsdb) -> None:
    async with connected(ovsdb) as backend:
        await ports(backend)
        hint = asyncio.ensure_future(anext(backend.hints()))
        ovsdb.kill()
        async with asyncio.timeout(10):
            assert await hint is None
        with pytest.raises(Disconnected, match="Connection refused"):
            await ports(backend)
        with pytest.raises(Disconnected, match="Connection refused"):
            await backend.knock()
        await asyncio.to_thread(ovsdb.start)
        await backend.knock()
        assert await ports(backend) == {"eth0": True}


async def test_it_is_stopped_and_goes_on(ovsdb: Ovsdb) -> None:
    async with connected(ovsdb) as backend:
        await ports(backend)
        ovsdb.signal(signal.SIGSTOP)
        for _ in range(2):  # the second over a new connection, which nobody accepts
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await backend.call([PORTS])
        ovsdb.signal(signal.SIGCONT)
        assert await ports(backend) == {"eth0": True}


async def test_its_question_whether_we_are_there_is_answered(ovsdb: Ovsdb) -> None:
    """OVSDB asks after five seconds without a word, and ends the connection five seconds later."""
    async with connected(ovsdb) as backend:
        await ports(backend)
        hint = asyncio.ensure_future(anext(backend.hints()))
        await asyncio.wait([hint], timeout=11)
        assert not hint.done()
        assert await ports(backend) == {"eth0": True}
        hint.cancel()
