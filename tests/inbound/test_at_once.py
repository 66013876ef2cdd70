"""Publishes and probes that come whole are answered without the application: by the same rules, in the same words."""

import asyncio
import socket
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from serving import GRANTS, Answer, RawClient, Serving, read_answer, request, serving

from tidegate.core.events import Position
from tidegate.core.rate import Rate
from tidegate.errors import BusRefused
from tidegate.inbound.server import serve

ONE = b'{"type":"app.a","data":1}'
EVENTS = "/api/v1/events"

PUBLISHES: dict[str, tuple[bytes, dict[str, str]]] = {
    "one event": (ONE, {}),
    "several": (b"[" + ONE + b"," + ONE + b"]", {}),
    "none": (b"[]", {}),
    "of a page": (ONE, {"Origin": "http://localhost"}),
    "of a foreign page": (ONE, {"Origin": "http://evil.example"}),
    "for another host": (ONE, {"Host": "evil.example"}),
    "no JSON": (b"{", {}),
    "a type that is polled": (b'{"type":"system.status","data":1}', {}),
    "data over the limit": (b'{"type":"app.a","data":"%b"}' % (b"x" * 200), {}),
    "compressed": (ONE, {"Content-Encoding": "gzip"}),
    "too long": (b" " * 5000 + ONE, {}),
    "too many": (b"[" + b",".join([ONE] * 11) + b"]", {}),
    "a token without the role": (ONE, {"Authorization": "Bearer sub"}),
    "a token that is none": (ONE, {"Authorization": "Bearer nobody"}),
    "no token": (ONE, {"Authorization": "Basic x"}),
}


def house() -> AbstractAsyncContextManager[Serving]:
    types = frozenset({"system.status"})
    return serving(grants=GRANTS, publishes=Rate(2.0, 10), event_bytes=100, source_types=types)


def publish(body: bytes = ONE, **fields: str) -> bytes:
    return request("POST", EVENTS, body, **{"host": "localhost", **fields})


def undated(answer: Answer) -> Answer:
    """The answer without what is different in each: the date and the id of the request."""
    request_id = answer.headers["x-request-id"]
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    return replace(answer, headers=headers, body=answer.body.replace(request_id.encode(), b""))


@pytest.mark.parametrize("kind", PUBLISHES)
async def test_a_publish_is_answered_alike_whether_it_comes_whole_or_not(kind: str) -> None:
    body, fields = PUBLISHES[kind]
    sent = publish(body, **{"Authorization": "Bearer pub", **fields})
    async with house() as served:
        whole = await served.send(sent)
        counted = served.house.metrics.named("request_refused")
        published = served.house.gateway.position.seq
    async with house() as served:
        in_two = await served.send_in_two(sent)
        assert served.house.metrics.named("request_refused") == counted
        assert served.house.gateway.position.seq == published
    assert undated(whole) == undated(in_two)
    assert published == {"one event": 1, "of a page": 1, "several": 2}.get(kind, 0)


async def test_a_publisher_that_sends_too_much_is_told_alike() -> None:
    async with serving(publishes=Rate(2.0, 2)) as served:
        await served.send(publish(b"[" + ONE + b"," + ONE + b"]"))
        whole, in_two = await served.send(publish()), await served.send_in_two(publish())
    assert undated(whole) == undated(in_two)
    assert (whole.status, whole.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("status", ["ready", "degraded", "starting", "draining"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_is_answered_alike(path: str, status: Any) -> None:
    """Of two requests that come in one read the second is the application's."""
    async with serving() as served:
        served.supervisor.status, served.supervisor.stale = status, 2
        client = await RawClient.open(served.port)
        probe = request("GET", path, host="evil.example")
        client.writer.write(probe.replace(b"Connection: close\r\n", b"") + probe)
        answers = (await client.rest()).split(b"HTTP/1.1 ")
        await client.close()
    [at_once, by_the_application] = [undated(read_answer(b"HTTP/1.1 " + answer)) for answer in answers if answer]
    assert by_the_application.headers.pop("connection") == "close"
    assert at_once == by_the_application
    assert at_once.json["status"] == ("ok" if path == "/healthz" else status)


@pytest.mark.parametrize("path", ["/live/healthz", "/healthz"])
async def test_a_probe_is_found_under_the_prefix_of_a_proxy(path: str) -> None:
    async with serving(http={"root_path": "/live"}) as served:
        assert (await served.ask("GET", path)).json == {"status": "ok"}
        assert (await served.ask("GET", f"{path}/more")).status == 404


async def test_an_answer_that_has_to_wait_for_the_bus_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as served:
        outcome: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(served.house.gateway.publishers, "start_publish", lambda *_: outcome)
        asking = asyncio.create_task(served.send(publish()))
        assert (await served.ask("GET", "/healthz")).status == 200
        assert not asking.done()
        outcome.set_result(Position("e", 7))
        assert (await asking).json == {"epoch": "e", "seq": 7}


async def test_a_publish_that_the_bus_refuses_later_is_answered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    async with serving() as served:
        for send in (served.send, served.send_in_two):
            outcome: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
            publishers = served.house.gateway.publishers
            monkeypatch.setattr(publishers, "start_publish", lambda *_, outcome=outcome: outcome)
            asking = asyncio.create_task(send(publish()))
            await served.ask("GET", "/healthz")
            await served.ask("GET", "/healthz")
            outcome.set_exception(BusRefused("no"))
            answers.append(undated(await asking))
    assert answers[0] == answers[1]
    assert answers[0].status >= 500


async def test_nothing_behind_a_request_that_ends_its_connection_is_done() -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(publish() + publish())
        assert (await client.rest()).count(b"HTTP/1.1 202 ") == 1
        await client.close()
        assert served.house.gateway.position.seq == 1


class Quick:
    """Answers everything at once, and then ends the connection."""

    def wants(self, method: str, path: bytes) -> bool:
        return True

    def answer(self, *_: object) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        return 200, [(b"content-length", b"0"), (b"connection", b"close")], b""


async def test_no_application_is_started_behind_an_answer_that_ends_its_connection() -> None:
    started: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        started.append(scope["path"])

    listener = socket.create_server(("127.0.0.1", 0))
    async with serve(application, lambda *_: None, Quick(), sock=listener, handshake_s=20.0):
        client = await RawClient.open(listener.getsockname()[1])
        on = request("GET", "/", host="localhost").replace(b"Connection: close\r\n", b"")
        client.writer.write(on + on)
        assert (await client.rest()).count(b"HTTP/1.1 200 ") == 1
        await client.close()
    assert started == []


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        on = publish().replace(b"Connection: close\r\n", b"")
        client.writer.write(on * 5 + publish())
        answers = (await client.rest()).split(b'"seq":')[1:]
        await client.close()
    assert [int(answer.partition(b"}")[0]) for answer in answers] == [1, 2, 3, 4, 5, 6]


async def test_half_a_head_behind_an_answer_that_was_given_at_once_has_its_deadline() -> None:
    async with serving(server={"handshake_s": 0.05}) as served:
        client = await RawClient.open(served.port)
        client.writer.write(publish().replace(b"Connection: close\r\n", b"") + b"GET / HT")
        assert (await client.rest()).count(b"HTTP/1.1 202 ") == 1
        await client.close()


async def test_a_connection_that_was_answered_at_once_may_be_idle() -> None:
    async with serving(server={"handshake_s": 0.05}) as served:
        client = await RawClient.open(served.port)
        on = publish().replace(b"Connection: close\r\n", b"")
        for _ in range(2):
            client.writer.write(on)
            await client.until(b'"seq":')
            await asyncio.sleep(0.15)
        client.writer.write(publish())
        assert b"202" in await client.rest()
        await client.close()
