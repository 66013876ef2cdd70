"""The socket: slow and oversized heads, the end of the server, and what an upgrade leaves behind."""

import asyncio
import gc
import itertools
import logging
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from certificates import written_to
from fanout import draft
from serving import RawClient, read_answer, request, serving

from tidegate.core.problem import UNFORESEEN
from tidegate.errors import CloseCode, ConfigError, RefusalReason
from tidegate.inbound.server import AsgiApp, serve, tls_context, transport_of
from tidegate.inbound.server.connection import HttpConnection
from tidegate.inbound.server.deadlines import Deadlines
from tidegate.inbound.server.reading import HEAD_BYTES
from tidegate.inbound.server.turns import PIPELINED

TOKEN = "hush-hush"


class Application:
    """Answers when the test says so."""

    def __init__(self, body: bytes = b"done") -> None:
        self.body = body
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.cancelled = False
        self.transport: asyncio.Transport | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.transport = transport_of(scope)
        self.asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        length = str(len(self.body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": self.body})


def no_websocket(*_: object) -> None:
    raise AssertionError("nobody upgrades here")


@asynccontextmanager
async def server(application: AsgiApp, **options: Any) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with serve(application, no_websocket, sock=listener, **{"handshake_s": 20.0, **options}):
        yield port


GET = request("GET", "/", host="127.0.0.1")
GET_ON = GET.replace(b"Connection: close\r\n", b"")


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: 1\r\n"])
async def test_a_slow_head_is_ended(sent: bytes) -> None:
    async with server(Application(), handshake_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.write(sent)
        assert await client.rest() == b""
        await client.close()


@pytest.mark.parametrize("sent", [b"G", b"\r\nG"])
async def test_a_slow_head_on_a_used_connection_is_ended(sent: bytes) -> None:
    async with server(Application(), handshake_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        assert (await client.until(b"done")).startswith(b"HTTP/1.1 200")
        client.writer.write(sent)
        assert await client.rest() == b""
        await client.close()


@pytest.mark.parametrize(("began", "rest"), [(b"", b"\r\n"), (b"Content-Length: 2\r\n", b"xx")])
async def test_a_used_connection_is_idle_again_behind_what_is_no_request(began: bytes, rest: bytes) -> None:
    refused: list[RefusalReason] = []
    async with server(
        Application(), handshake_s=3600.0, keep_alive_s=0.05, refused=lambda reason, _: refused.append(reason)
    ) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON[:-2] + began + b"\r\n")
        await client.until(b"done")
        client.writer.write(rest)
        assert await ended(client) == b""
        await client.close()
    assert refused == []


async def test_a_head_in_drips_is_ended_too() -> None:
    async with server(Application(), handshake_s=0.1) as port:
        client = await RawClient.open(port)
        dripping = asyncio.create_task(drip(client, b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 10_000))
        assert await ended(client) == b""
        dripping.cancel()
        await client.close()


async def test_each_slow_head_is_ended_at_its_own_time() -> None:
    ended_at: dict[str, float] = {}
    over = asyncio.Event()
    now = asyncio.get_running_loop().time

    def overdue(name: str) -> None:
        ended_at[name] = now()
        if name == "first":
            deadlines.begin("later")
        else:
            over.set()

    deadlines = Deadlines(0.02, overdue)
    began = now()
    for waiting in ("quick", "first"):
        deadlines.begin(waiting)
    deadlines.stop("quick")
    async with asyncio.timeout(10):
        await over.wait()
    assert list(ended_at) == ["first", "later"]
    assert ended_at["first"] >= began + 0.019
    assert ended_at["later"] >= ended_at["first"] + 0.019


async def test_a_timeout_that_is_changed_holds_for_those_that_wait_already() -> None:
    over = asyncio.Event()
    ended: list[str] = []

    def overdue(name: str) -> None:
        ended.append(name)
        if name == "second":
            over.set()

    deadlines = Deadlines(60.0, overdue)
    deadlines.begin("first")
    deadlines.change(0.02)
    deadlines.begin("second")
    async with asyncio.timeout(10):
        await over.wait()
    assert ended == ["first", "second"]
    deadlines.change(60.0)
    deadlines.begin("third")
    assert "third" in deadlines
    deadlines.cancel()


async def ended(client: RawClient) -> bytes:
    """All that came until the server ended the connection; a byte on its way at that moment makes it a reset."""
    with suppress(ConnectionError):
        return await client.rest()
    return b""


async def drip(client: RawClient, data: bytes) -> None:
    for byte in data:
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0.005)


async def test_a_body_that_nobody_reads_cannot_drip_for_ever() -> None:
    async with server(Application(), handshake_s=0.1) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON.replace(b"\r\n\r\n", b"\r\nContent-Length: 100000\r\n\r\n"))
        await client.until(b"done")
        dripping = asyncio.create_task(drip(client, b"x" * 100_000))
        assert await ended(client) == b""
        dripping.cancel()
        await client.close()


async def test_a_slow_answer_is_waited_for() -> None:
    application = Application()
    application.may_answer.clear()
    async with server(application, handshake_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.write(GET)
        await application.asked.wait()
        await asyncio.sleep(0.1)
        application.may_answer.set()
        assert read_answer(await client.rest()).body == b"done"
        await client.close()


async def test_an_idle_connection_is_ended() -> None:
    async with server(Application(), keep_alive_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        assert (await client.rest()).endswith(b"done")
        await client.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"X: %b\r\n" % (b"x" * (HEAD_BYTES + 1)) + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * (HEAD_BYTES // 6 + 1) + b"\r\n",
        b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * HEAD_BYTES),
    ],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    application = Application()
    async with server(application) as port:
        client = await RawClient.open(port)
        client.writer.write(head)
        answer = read_answer(await client.rest())
        await client.close()
    assert (answer.status, answer.headers["content-type"]) == (431, "application/problem+json")
    assert answer.json["status"] == 431
    assert not application.asked.is_set()


async def test_an_endless_head_is_refused_before_it_ends() -> None:
    async with server(Application()) as port:
        client = await RawClient.open(port)
        client.writer.write(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(64):
            client.writer.write(b"x" * 16384)
            await asyncio.sleep(0)
        head = await client.until(b"\r\n\r\n")
        await client.close()
    assert head.startswith(b"HTTP/1.1 431 ")


async def test_a_large_head_within_the_limit_is_read() -> None:
    async with server(Application()) as port:
        client = await RawClient.open(port)
        client.writer.write(GET.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"x" * (HEAD_BYTES - 1000))))
        assert read_answer(await client.rest()).status == 200
        await client.close()


@pytest.mark.parametrize("garbage", [b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_what_is_no_http_is_refused(garbage: bytes) -> None:
    async with server(Application()) as port:
        client = await RawClient.open(port)
        client.writer.write(garbage)
        answer = read_answer(await client.rest())
        await client.close()
    assert (answer.status, answer.json["status"]) == (400, 400)
    assert answer.headers["server"] == "tidegate"


async def test_garbage_after_a_request_does_not_cut_into_its_answer() -> None:
    application = Application()
    application.may_answer.clear()
    async with server(application) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        await application.asked.wait()
        client.writer.write(b"garbage\r\n\r\n")
        assert await client.rest() == b""
        application.may_answer.set()
        await client.close()


async def test_requests_that_come_all_at_once_are_answered_in_order() -> None:
    application = Application()
    async with server(application) as port:
        client = await RawClient.open(port)
        padded = GET_ON.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"x" * 500))
        client.writer.write(padded * PIPELINED + GET)
        assert (await client.rest()).count(b"HTTP/1.1 200 OK") == PIPELINED + 1
        await client.close()


class Echo:
    """Answers with the body that it is sent."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert all(name != b"upgrade" for name, _ in scope["headers"])
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<%b>" % body})


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("fields", [{"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}])
async def test_an_upgrade_to_another_protocol_is_passed_over(
    fields: dict[str, str], pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk", **fields}
    head = request("POST", "/", b"", host="127.0.0.1", **upgrade)
    body = b"hello" if "Content-Length" in fields else b"5\r\nhello\r\n0\r\n\r\n"
    sent = (head + body) * 3 + GET
    async with server(Echo()) as port:
        client = await RawClient.open(port)
        for n in range(pieces):
            client.writer.write(sent[n * len(sent) // pieces : (n + 1) * len(sent) // pieces])
            await asyncio.sleep(0.01)
        answers = await client.rest()
        await client.close()
    assert answers.count(b"<hello>") == 3
    assert answers.endswith(b"\r\n2\r\n<>\r\n0\r\n\r\n")
    assert not caplog.records


async def test_an_application_that_fails_behind_its_head_is_answered_with_500_all_the_same() -> None:
    """The head goes out with the first piece of the body, as ASGI asks for."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("unforeseen")

    async with server(fails) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        answer = read_answer(await client.rest())
        await client.close()
    assert (answer.status, answer.body) == (500, UNFORESEEN.body(answer.headers["x-request-id"]))
    assert "unforeseen" not in answer.json["detail"]


@pytest.mark.parametrize(("version", "continues"), [("1.1", 1), ("1.0", 0)])
async def test_who_waits_to_go_on_is_told_to_but_in_http_1_0(version: str, continues: int) -> None:
    async with server(Echo()) as port:
        client = await RawClient.open(port)
        sent = request("POST", "/", b"hello", host="127.0.0.1", Expect="100-continue")
        client.writer.write(sent.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        answers = await client.rest()
        await client.close()
    assert answers.count(b" 100 Continue\r\n") == continues
    assert b"<hello>" in answers


@pytest.mark.parametrize("connection", [("Upgrade", "keep-alive"), ("keep-alive", "Upgrade"), ("close, Upgrade",)])
async def test_a_request_is_run_once_whatever_its_connection_fields_say(connection: tuple[str, ...]) -> None:
    fields = "".join(f"Connection: {value}\r\n" for value in connection)
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}Upgrade: h2c\r\nContent-Length: 5\r\n\r\n"
    async with server(Echo()) as port:
        client = await RawClient.open(port)
        client.writer.write(head.encode() + b"hello")
        client.writer.write_eof()
        answers = await client.rest()
        await client.close()
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"<hello>" in answers


async def test_white_space_behind_a_field_is_no_part_of_it() -> None:
    async with serving() as served:
        answer = await served.send(b"GET /healthz HTTP/1.1\r\nHost: localhost \t\r\nConnection: close \r\n\r\n")
        assert answer.status == 200


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_client_that_ends_its_own_direction_gets_its_answers(requests: int) -> None:
    async with server(Application()) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON * requests)
        client.writer.write_eof()
        assert (await client.rest()).count(b"done") == requests
        await client.close()


async def test_a_client_that_ends_its_direction_in_the_middle_of_a_body_is_gone() -> None:
    async with server(Echo()) as port:
        client = await RawClient.open(port)
        client.writer.write(request("POST", "/", b"hello", host="127.0.0.1")[:-1])
        client.writer.write_eof()
        assert await client.rest() == b""
        await client.close()


@pytest.mark.parametrize("target", ["example.com:80", "/"])
@pytest.mark.parametrize("upgrade", ["", "Upgrade: h2c\r\n"])
async def test_a_tunnel_is_refused(upgrade: str, target: str) -> None:
    async with server(Application()) as port:
        client = await RawClient.open(port)
        client.writer.write(
            f"CONNECT {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n{upgrade}\r\n".encode()
        )
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        await client.close()


async def test_each_head_is_measured_on_its_own_wherever_the_reads_end() -> None:
    async with server(Application()) as port:
        client = await RawClient.open(port)
        padded = GET_ON.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"x" * 500))
        stream, answer = padded * 180, b"done"
        parts = [stream[:300], stream[300 : 300 + 80 * len(padded)], stream[300 + 80 * len(padded) :]]
        assert len(parts[1]) > HEAD_BYTES
        for part, answers in zip(parts, (0, 80, 100), strict=True):
            client.writer.write(part)
            for _ in range(answers):
                await client.until(answer)
            other = await RawClient.open(port)
            other.writer.write(GET)
            await other.rest()  # by now the server has read what was sent before
            await other.close()
        await client.close()


async def test_more_requests_than_may_wait_end_the_connection_and_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    application = Application()
    application.may_answer.clear()
    async with server(application) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        await application.asked.wait()
        client.writer.write(GET_ON * (PIPELINED + 1))
        with suppress(ConnectionError):
            assert await client.rest() == b""
        application.may_answer.set()
        await client.close()
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


async def test_leaving_waits_for_running_answers() -> None:
    application = Application()
    application.may_answer.clear()
    async with server(application) as port:
        client = await RawClient.open(port)
        idle = await RawClient.open(port)
        client.writer.write(GET_ON)
        await application.asked.wait()
        asyncio.get_running_loop().call_later(0.05, application.may_answer.set)
    answer = read_answer(await client.rest())
    assert (answer.body, answer.headers["connection"]) == (b"done", "close")
    assert await idle.rest() == b""
    with pytest.raises(ConnectionError):
        await RawClient.open(port)
    await client.close()
    await idle.close()


async def test_leaving_does_not_wait_for_a_connection_that_opens_meanwhile(tmp_path: Path) -> None:
    certificates = written_to(tmp_path)
    theirs = ssl.create_default_context(cafile=str(certificates.ca))
    application = Application()
    application.may_answer.clear()

    async def open_late(late: RawClient) -> None:
        await late.writer.start_tls(theirs, server_hostname="127.0.0.1")
        assert await late.rest() == b""
        application.may_answer.set()

    async with server(application, ssl=certificates.server_side(), finish_s=2.0) as port:
        late = await RawClient.open(port)  # accepted before the other, but no connection until it has shaken hands
        client = RawClient(*await asyncio.open_connection("127.0.0.1", port, ssl=theirs))
        client.writer.write(GET_ON)
        await application.asked.wait()
        opening = asyncio.create_task(open_late(late))
    assert read_answer(await client.rest()).body == b"done"
    await opening
    await client.close()
    await late.close()


async def test_leaving_gives_up_on_answers_that_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.inbound.server.listening.ABORTED_S", 0.05)
    application = Application()
    application.may_answer.clear()
    before = asyncio.all_tasks()
    async with server(application, finish_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        await application.asked.wait()
    assert application.cancelled
    assert await client.rest() == b""
    await client.close()
    assert asyncio.all_tasks() == before


async def test_leaving_gives_up_on_readers_that_do_not_read() -> None:
    application = Application(b"x" * 10_000_000)
    async with server(application, finish_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET)
        await application.asked.wait()
    assert application.transport is not None
    assert application.transport.is_closing()
    await client.close()


async def test_an_idle_reader_that_does_not_read_is_not_kept() -> None:
    application = Application(b"x" * 10_000_000)
    async with server(application, keep_alive_s=0.02, handshake_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET_ON)
        await application.asked.wait()
        assert application.transport is not None
        async with asyncio.timeout(20):
            while application.transport.get_write_buffer_size() or not application.transport.is_closing():
                await asyncio.sleep(0.01)
        await client.close()


async def test_a_reset_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    protocols = remembered(monkeypatch)
    async with server(Application()) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        await client.until(b"done")
        raw_socket = client.writer.get_extra_info("socket")
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.close()
        async with asyncio.timeout(20):
            while protocols[0]() is not None:
                await asyncio.sleep(0.01)
                gc.collect()


async def test_the_date_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = itertools.count()
    monkeypatch.setattr("tidegate.inbound.server.answering.formatdate", lambda *, usegmt: f"{next(dates)} {usegmt}")
    async with server(Application()) as port:
        seen: set[str] = set()
        async with asyncio.timeout(20):
            while len(seen) < 2:
                client = await RawClient.open(port)
                client.writer.write(GET)
                seen.add(read_answer(await client.rest()).headers["date"])
                await client.close()
                await asyncio.sleep(0.05)
    assert seen == {"0 True", "1 True"}


async def test_the_kernel_holds_little_unsent_and_gives_dead_peers_up() -> None:
    application = Application()
    async with server(application) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        await client.until(b"done")
        assert application.transport is not None
        raw_socket = application.transport.get_extra_info("socket")
        assert raw_socket.getsockopt(socket.IPPROTO_TCP, 25) == 16384
        assert raw_socket.getsockopt(socket.IPPROTO_TCP, 18) == 40_000
        await client.close()


def remembered(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[HttpConnection]]:
    """The protocols of the connections that are made from now on."""
    protocols: list[weakref.ref[HttpConnection]] = []
    made = HttpConnection.connection_made

    def remember(self: HttpConnection, transport: asyncio.Transport) -> None:
        protocols.append(weakref.ref(self))
        made(self, transport)

    monkeypatch.setattr(HttpConnection, "connection_made", remember)
    return protocols


async def test_an_upgrade_leaves_nothing_for_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    protocols = remembered(monkeypatch)
    async with serving() as gate, aiohttp.ClientSession() as session:
        gc.collect()
        gc.disable()
        try:
            async with session.ws_connect(f"{gate.url}/ws") as websocket:
                await websocket.receive()
                assert [protocol() for protocol in protocols] == [None]
        finally:
            gc.enable()


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/status", "/ws", "/no/such"])
async def test_no_logger_is_told_a_token(
    path: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(1)
    async with serving() as gate:
        for head in ("GET {} HTTP/1.1", "HEAD {} HTTP/1.1", "GET {} NOPE"):
            line = head.format(f"{path}?token={TOKEN}")
            fields = f"Host: evil\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
            await gate.send(f"{line}\r\n{fields}\r\n".encode())
        async with aiohttp.ClientSession() as session:
            url = f"{gate.url}/ws?token={TOKEN}&types="
            async with session.ws_connect(url) as websocket:
                await websocket.receive()
    said = capsys.readouterr().out  # where structlog prints, at every level, unless it is told otherwise
    assert path in said
    assert "refused" in said
    assert TOKEN not in said + caplog.text


def test_files_that_are_no_certificate_and_its_key_are_named(tmp_path: Path) -> None:
    made = written_to(tmp_path)
    (tmp_path / "other").write_text("hello")
    for cert, key in (
        (made.client_cert, tmp_path / "other"),
        (tmp_path / "other", made.client_key),
        (made.client_cert, made.server),
        (made.client_cert, made.locked_key),
        (made.client_cert, tmp_path / "missing"),
    ):
        with pytest.raises(ConfigError) as caught:
            tls_context(cert, key)
        [problem] = caught.value.problems
        assert problem.path == "server.tls_cert_file"
        assert str(key) in problem.got


async def test_tls(tmp_path: Path) -> None:
    certificates = written_to(tmp_path)
    theirs = ssl.create_default_context(cafile=str(certificates.ca))
    async with server(Application(), ssl=certificates.server_side()) as port:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", port, ssl=theirs))
        client.writer.write(GET)
        assert read_answer(await client.rest()).body == b"done"
        await client.close()


async def test_an_event_stream_in_http_1_0_has_no_chunks_and_ends_with_the_connection() -> None:
    """As nginx asks its upstreams, unless it is told otherwise."""
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(b"GET /api/v1/events?types=a HTTP/1.0\r\nHost: localhost\r\n\r\n")
        head = await client.until(b"\r\n\r\n")
        welcome = await client.until(b'"welcome"')
        await served.house.gateway.publish([draft("a", 1)])
        event = await client.until(b'"data":1}\n\n')
        for connection in served.house.gateway.clients.connections:
            connection.close(CloseCode.DRAINING, "the test is over")
        rest = await client.rest()
        await client.close()
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert welcome.startswith(b"retry: ")
    assert b"\r" not in event
    assert b"\r" not in rest


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/healthz", "/no/such", "/api/v1/snapshot", "/openapi.json"])
async def test_every_answer_in_http_1_0_is_whole(path: str, method: str) -> None:
    async with serving() as served:
        answer = await served.send(f"{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    assert "transfer-encoding" not in answer.headers
    assert (answer.body == b"") == (method == "HEAD")
    if answer.body:
        assert answer.json


async def test_a_reader_that_takes_nothing_of_a_whole_answer_is_given_up() -> None:
    application = Application(b"x" * 10_000_000)
    async with server(application, slow_grace_s=0.05) as port:
        client = await RawClient.open(port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET_ON * 2)
        await application.asked.wait()
        assert application.transport is not None
        async with asyncio.timeout(20):
            while application.transport.get_write_buffer_size() or not application.transport.is_closing():
                await asyncio.sleep(0.01)
        await client.close()


BEHIND = {
    "an upgrade": GET_ON.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    "another upgrade": GET_ON.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "garbage": b"garbage\r\n\r\n",
    "a head that is too large": b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * (HEAD_BYTES // 6 + 1),
    "more requests than may wait": GET_ON * (PIPELINED + 1),
    "a body": request("POST", "/", b"x" * 100, host="127.0.0.1"),
    "half a head": b"GET / HT",
}


GET_OLD = GET_ON.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n")


@pytest.mark.parametrize(("first", "at_once"), [(GET, False), (GET_OLD, False), (GET_ON, True)])
@pytest.mark.parametrize("behind", BEHIND)
async def test_nothing_behind_a_request_that_ends_its_connection_harms_its_answer(
    behind: str, first: bytes, at_once: bool
) -> None:
    body = b"x" * 2_000_000
    application, refused = Application(body), list[RefusalReason]()
    options: dict[str, Any] = {"at_once": Whole(body)} if at_once else {}
    async with server(application, refused=lambda reason, _: refused.append(reason), **options) as port:
        client = await slow_reader(port)
        client.writer.write(first + BEHIND[behind])
        assert read_answer(await client.rest()).body == body
        await client.close()
    assert refused == []


async def test_a_body_behind_a_request_that_ends_its_connection_is_not_taken_for_its_own() -> None:
    sent = request("POST", "/", b"hello", host="127.0.0.1")
    old = sent.replace(b"1.1\r\n", b"1.0\r\n").replace(b"Connection: close", b"Connection: keep-alive")
    async with server(Echo()) as port:
        client = await RawClient.open(port)
        client.writer.write(old + sent)
        assert (await client.rest()).endswith(b"\r\n\r\n<hello>")
        await client.close()


@pytest.mark.parametrize("behind", BEHIND)
async def test_nothing_behind_the_last_request_harms_its_answer_when_the_server_leaves(behind: str) -> None:
    application = Application()
    application.may_answer.clear()

    async with server(application) as port:
        client = await RawClient.open(port)
        client.writer.write(GET_ON)
        await application.asked.wait()
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, client.writer.write, BEHIND[behind])
        loop.call_later(0.1, application.may_answer.set)
    assert read_answer(await client.rest()).body == b"done"
    await client.close()


class Whole:
    """Answers at once with `body`, and ends the connection."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def wants(self, method: str, path: bytes) -> bool:
        return True

    def answer(self, *_: object) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        return 200, [(b"content-length", b"%d" % len(self.body)), (b"connection", b"close")], self.body


async def slow_reader(port: int) -> RawClient:
    """A client whose kernel takes little before it reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return RawClient(*await asyncio.open_connection(sock=sock, limit=1024))


async def test_a_slow_reader_of_a_whole_answer_gets_all_of_it() -> None:
    application = Application(b"x" * 2_000_000)
    async with server(application, slow_grace_s=0.3) as port:
        client = await slow_reader(port)
        client.writer.write(GET)
        got = 0
        while data := await client.reader.read(20_000):
            got += len(data)
            await asyncio.sleep(0.005)
        await client.close()
    assert got > 2_000_000


STREAM = b"GET /api/v1/events?types=a HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE = request("GET", "/healthz", host="localhost").replace(b"Connection: close\r\n", b"")


@pytest.mark.parametrize("behind", [b"", PROBE, PROBE * 3, b"GET / HT"])
@pytest.mark.parametrize("is_together", [True, False])
async def test_a_stream_ends_with_its_clients_direction_whatever_waits_behind_it(
    behind: bytes, is_together: bool
) -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(STREAM + behind if is_together else STREAM)
        await client.until(b'"welcome"')
        if not is_together:
            client.writer.write(behind)
            assert (await served.ask("GET", "/healthz")).status == 200  # by now what waits has been read
        client.writer.write_eof()
        await client.rest()
        await client.close()
        async with asyncio.timeout(20):
            while served.house.gateway.clients.connections:
                await asyncio.sleep(0.005)
