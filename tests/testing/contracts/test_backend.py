import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from msgspec import Raw
from rpc_server import RpcPeer, RpcServer, rpc_backend, stream, websocket
from scripted_http import Peer, http_response, scripted

from tidegate.errors import ApplicationError, BackendError, Disconnected, InvalidResponse
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.ports import Backend, Call
from tidegate.testing import ScriptedBackend
from tidegate.testing.contracts import BackendContract

ANSWERS: Mapping[str, object] = {
    "number": Raw(b"1.10"),
    "large": 2**60,
    "text": "\u00e4\n",
    "nested": {"a": [{"b": None}], "c": {}},
}
ERROR = ApplicationError(-32000, "the disk is gone")


class OurContract(BackendContract):
    """What the service of these tests answers. It writes its JSON with spaces, and answers batches backwards."""

    answers: ClassVar = {
        method: bytes(answer)
        if isinstance(answer, Raw)
        else json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()
        for method, answer in ANSWERS.items()
    }
    error: ClassVar[str | None] = "error"
    breaks = "break"
    hangs = "hang"
    garbles = "garble"


class OfBatches(OurContract):
    async def test_an_error_is_told_with_its_code_and_text_among_answers(self) -> None:
        async with self.opened() as backend:
            first, second, third = await backend.call([Call("number"), Call("error"), Call("large")])
        assert (first, third) == (Raw(b"1.10"), Raw(b"%d" % 2**60))
        assert isinstance(second, ApplicationError)
        assert (second.rpc_code, str(second)) == (ERROR.rpc_code, str(ERROR))

    async def test_an_error_is_told_with_its_code_and_text(self) -> None:
        async with self.opened() as backend:
            [answer] = await backend.call([Call("error")])
        assert isinstance(answer, ApplicationError)
        assert (answer.rpc_code, str(answer)) == (ERROR.rpc_code, str(ERROR))

    async def test_a_broken_exchange_is_a_disconnect(self) -> None:
        async with self.opened() as backend:
            with pytest.raises(Disconnected):
                await backend.call([Call("break")])


class TestJsonRpcBackend(OfBatches):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        async with scripted(http_answer) as server:
            backend = JsonRpcBackend(HttpOptions(url=server.url))
            yield backend
            await backend.aclose()

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[Backend]:
        with socket.socket() as bound:  # and not listening
            bound.bind(("127.0.0.1", 0))
            backend = JsonRpcBackend(HttpOptions(url=f"http://127.0.0.1:{bound.getsockname()[1]}/"))
            yield backend
            await backend.aclose()


class TestHttpJsonBackend(OurContract):
    batches = False
    error = None  # plain HTTP has none

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        async with scripted(http_answer) as server:
            backend = HttpJsonBackend(HttpOptions(url=server.url))
            yield backend
            await backend.aclose()

    async def test_a_broken_exchange_is_a_disconnect(self) -> None:
        async with self.opened() as backend:
            with pytest.raises(Disconnected):
                await backend.call([Call("break")])


class TestJsonRpcOverWebSocket(OfBatches):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        async with websocket(rpc_answers) as server, rpc_backend(server) as backend:
            yield backend

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[Backend]:
        async with _nowhere("ws") as backend:
            yield backend


class TestJsonRpcOverAStream(OfBatches):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        async with stream(rpc_answers) as server, rpc_backend(server) as backend:
            yield backend

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[Backend]:
        async with _nowhere("tcp") as backend:
            yield backend


class OfMethods(ScriptedBackend):
    """Breaks down or hangs as the method asks for it, as the server below does."""

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        self.recover()
        if any(call.method == "break" for call in calls):
            self.fail(Disconnected("it ended in mid-air"))
        if any(call.method == "hang" for call in calls):
            self.hang()
        if any(call.method == "garble" for call in calls):
            self.fail(InvalidResponse("expected JSON"))
        return await super().call(calls)


class TestScriptedBackend(OfBatches):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        backend = OfMethods({**ANSWERS, "error": ERROR})
        yield backend
        await backend.aclose()

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[Backend]:
        backend = ScriptedBackend(ANSWERS)
        backend.fail(Disconnected("refused"), unreachable=True)
        yield backend
        await backend.aclose()

    async def test_it_hangs_while_connecting_until_it_recovers(self) -> None:
        backend = ScriptedBackend(ANSWERS)
        backend.hang(unreachable=True)
        ask = await backend.prepare()
        call, knock = asyncio.ensure_future(ask([Call("number")])), asyncio.create_task(backend.knock())
        await asyncio.sleep(0.01)
        assert not knock.done()
        assert not call.done()
        call.cancel()
        await asyncio.wait([call])
        assert getattr(ask, "connected", None) is False
        backend.recover()
        await knock
        assert len(backend.knocks) == 1

    async def test_it_can_be_reached_while_its_exchanges_fail_or_hang(self) -> None:
        backend = ScriptedBackend(ANSWERS)
        backend.fail(Disconnected("reset"))
        await backend.knock()
        backend.hang()
        await backend.knock()

    async def test_its_calls_send_its_secret(self) -> None:
        backend = ScriptedBackend(ANSWERS)
        backend.secret = b"s3cr3t"
        assert getattr(await backend.prepare(), "secret", None) == b"s3cr3t"


@asynccontextmanager
async def _nowhere(scheme: str) -> AsyncIterator[Backend]:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        async with rpc_backend(RpcServer(f"{scheme}://127.0.0.1:{bound.getsockname()[1]}")) as backend:
            yield backend


async def rpc_answers(peer: RpcPeer) -> None:
    """A server of `ANSWERS` over a persistent connection."""
    while True:
        asked = await peer.message()
        if asked["method"] == "hang":
            continue
        if asked["method"] == "break":
            return
        if asked["method"] == "garble":
            await peer.send({"jsonrpc": "2.0", "id": asked["id"]})
            continue
        await peer.send(_rpc(asked))


async def http_answer(peer: Peer) -> None:
    """A server of `ANSWERS`: JSON-RPC where a body comes, plain HTTP elsewhere; "hang" and "break" do that."""
    while True:
        request = await peer.request()
        asked = json.loads(request.body or "null")
        methods = [each["method"] for each in ([asked] if isinstance(asked, dict) else asked or [])]
        path = request.line.split()[1].rpartition("/")[2]
        if "hang" in (*methods, path):
            await peer.until_closed()
        if "break" in (*methods, path):
            return
        if "garble" in (*methods, path):
            await peer.send(http_response(b"{no json"))
            continue
        if isinstance(asked, dict):
            body = _rpc(asked)
        elif asked:
            body = b"[" + b",".join(map(_rpc, reversed(asked))) + b"]"
        else:
            body = _json(ANSWERS[path])
        await peer.send(http_response(body))


def _rpc(asked: Mapping[str, Any]) -> bytes:
    method = asked["method"]
    head = b'{"jsonrpc":"2.0","id":%d,' % asked["id"]
    if method == "error":
        return head + b'"error":{"code":-32000,"message":"the disk is gone"}}'
    return head + b'"result":' + _json(ANSWERS[method]) + b"}"


def _json(value: object) -> bytes:
    """Not compact."""
    return bytes(value) if isinstance(value, Raw) else json.dumps(value, indent=1, ensure_ascii=False).encode()
