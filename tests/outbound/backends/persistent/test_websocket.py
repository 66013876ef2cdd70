"""What is special about WebSockets."""

import logging
from pathlib import Path

import pytest
from certificates import written_to
from msgspec import Raw
from rpc_server import RpcPeer, RpcServer, WebSocketPeer, rpc_backend, websocket
from scripted_http import Peer, ScriptedServer, answering, http_response, scripted
from websockets.datastructures import Headers
from websockets.http11 import Response

from tidegate.errors import Disconnected, HttpStatus, InvalidResponse
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.persistent.options import RpcSession
from tidegate.ports import Call
from tidegate.secret import Secret


async def answers(peer: RpcPeer) -> None:
    while True:
        await peer.answer("well")


def at(server: ScriptedServer) -> RpcServer:
    return RpcServer(server.url.replace("http:", "ws:"))


async def test_the_handshake_has_the_configured_headers_and_the_credentials() -> None:
    def credentials() -> Credentials:
        sent = {"Authorization": "Bearer t0ken", "X-Key": "k3y/?", "Sec-WebSocket-Version": "x"}
        return Credentials({"key": Secret("k3y/?")}, headers=sent)

    headers = {"Host": "nas.example", "Connection": "close", "Sec-WebSocket-Key": "x"}
    async with websocket(answers) as server:
        server.url += "?token={key}"
        async with rpc_backend(server, headers=headers, credentials=credentials) as backend:
            await backend.call([Call("m")])
    [request] = server.requests
    assert request.path == "/api?token=k3y%2F%3F"
    assert request.headers["X-Key"] == "k3y/?"
    assert request.headers["Authorization"] == "Bearer t0ken"
    assert request.headers.get_all("Host") == ["nas.example"]
    assert request.headers["User-Agent"].startswith("tidegate/")
    assert "Sec-WebSocket-Extensions" not in request.headers


@pytest.mark.parametrize(
    ("status", "retry_after", "code"),
    [(401, None, "RPC_AUTH"), (503, "7", "RPC_HTTP_STATUS"), (404, None, "RPC_HTTP_STATUS")],
)
async def test_a_handshake_that_is_refused_is_that_status(status: int, retry_after: str | None, code: str) -> None:
    async with websocket(answers) as server, rpc_backend(server) as backend:
        fields = {"Content-Length": "0"} | ({"Retry-After": retry_after} if retry_after else {})
        server.refusal = Response(status, "No", Headers(fields), b"")
        with pytest.raises(HttpStatus, match=f"expected an HTTP success, got {status}") as caught:
            await backend.call([Call("m")])
        assert caught.value.code == code
        assert caught.value.retry_after_s == (7.0 if retry_after else None)
        server.refusal = None
        await backend.call([Call("m")])


@pytest.mark.parametrize(
    "answer",
    [
        http_response(b"{}"),
        http_response(b"", status="101 Switching Protocols"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff" * 50 + b"\r\n",
    ],
    ids=range(4),
)
async def test_what_is_no_handshake_is_an_answer_that_cannot_be_read(answer: bytes) -> None:
    async with scripted(answering(answer)) as server, rpc_backend(at(server)) as backend:
        with pytest.raises((InvalidResponse, HttpStatus), match="expected"):
            await backend.call([Call("m")])


async def test_a_server_that_ends_the_connection_before_the_handshake_is_a_disconnect() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with scripted(script) as server, rpc_backend(at(server)) as backend:
        with pytest.raises(Disconnected, match="closed the connection"):
            await backend.call([Call("m")])


async def test_the_code_and_the_reason_of_a_close_are_told() -> None:
    async def script(peer: WebSocketPeer) -> None:
        await peer.message()
        await peer.connection.close(1008, "too many \x1b logins")

    async with websocket(script) as server, rpc_backend(server) as backend:
        with pytest.raises(Disconnected, match=r"it closed the connection \(1008 too many \\x1b logins\)"):
            await backend.call([Call("m")])


async def test_pings_are_answered_and_messages_in_fragments_are_read() -> None:
    async def script(peer: WebSocketPeer) -> None:
        call = await peer.message()
        await (await peer.connection.ping())
        text = b'{"id":%d,"result":"in pieces"}' % call["id"]
        await peer.connection.send([text[:5], text[5:9], text[9:]])
        await peer.until_closed()

    async with websocket(script) as server, rpc_backend(server) as backend:
        [answer] = await backend.call([Call("m")])
        assert answer == Raw(b'"in pieces"')


async def test_what_breaks_the_protocol_is_an_answer_that_cannot_be_read() -> None:
    async def script(peer: WebSocketPeer) -> None:
        await peer.message()
        peer.connection.transport.write(b"\xff\xff\xff")
        await peer.until_closed()

    async with websocket(script) as server, rpc_backend(server) as backend:
        with pytest.raises(InvalidResponse, match="expected WebSocket frames"):
            await backend.call([Call("m")])


async def test_it_says_goodbye() -> None:
    ends = []

    async def script(peer: WebSocketPeer) -> None:
        await peer.answer(1)
        await peer.until_closed()
        ends.append(peer.connection.close_code)

    async with websocket(script) as server, rpc_backend(server) as backend:
        await backend.call([Call("m")])
    assert ends == [1000]


async def test_tls_checks_the_certificate_and_shows_its_own(tmp_path: Path) -> None:
    certificates = written_to(tmp_path)
    async with websocket(answers, tls=certificates.server_side(ask_client=True)) as server:
        async with rpc_backend(server, ca_file=certificates.ca, client_cert_file=certificates.client) as backend:
            [answer] = await backend.call([Call("m")])
            assert answer == Raw(b'"well"')
        async with rpc_backend(server) as backend:
            with pytest.raises(Disconnected, match="its certificate is not trusted"):
                await backend.call([Call("m")])


async def test_tls_checks_the_configured_name(tmp_path: Path) -> None:
    certificates = written_to(tmp_path)
    async with websocket(answers, tls=certificates.server_side(named=True)) as server:
        async with rpc_backend(server, ca_file=certificates.ca) as backend:
            with pytest.raises(Disconnected, match=r"not valid for '127.0.0.1'"):
                await backend.call([Call("m")])
        async with rpc_backend(server, ca_file=certificates.ca, tls_name="nas.test") as backend:
            assert await backend.call([Call("m")]) == [Raw(b'"well"')]
    assert server.requests[0].headers["Host"].startswith("127.0.0.1:")


async def test_no_message_is_logged_whatever_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets").setLevel(logging.DEBUG)
    session = RpcSession(login=Call("login", Raw(b'["{key}"]')))
    async with websocket(answers) as server:
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        async with rpc_backend(
            server, session=session, credentials=lambda: Credentials({"key": Secret("c4nary-k3y")})
        ) as backend:
            await backend.call([Call("m")])
    assert "c4nary" in str(server.received)
    assert "c4nary" not in caplog.text
