"""The client against a scripted server: what it yields, asks for and gives up on."""

import asyncio
import re
from itertools import pairwise
from typing import cast
from urllib.parse import parse_qs, urlsplit

import pytest
from house import virtual
from scripted_gateway import Gateway, Peer, Script, problem, scripted
from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from tidegate.client import Backoff, Connected, Disconnected, Event, Gap, Item, Stream, StreamOptions, connect
from tidegate.errors import AccessRefused, StreamClosed

AT_ONCE = StreamOptions(backoff=Backoff(first_s=0.0), close_timeout_s=0.5)


async def take(stream: Stream, count: int) -> list[Item]:
    return [await asyncio.wait_for(anext(stream), 20) for _ in range(count)]


async def until_event(stream: Stream) -> Event:
    while True:
        [item] = await take(stream, 1)
        if isinstance(item, Event):
            return item


def query(gateway: Gateway, request: int) -> dict[str, list[str]]:
    return parse_qs(urlsplit(gateway.requests[request]).query)


async def idle(peer: Peer) -> None:
    await peer.welcome("e1", 7)
    await peer.stay()


async def test_events_come_typed_and_as_they_were_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.connection.send(
            '{"type":"a.b","timestamp":"2026-11-22T21:40:03.123Z","seq":8,"key":"k","source":"s","stale":true,'
            '"as_of":"2026-11-22T21:40:01.000Z","error_code":"RPC_TIMEOUT","new":1,"data":{"x":1.10}}'
        )
        await peer.stay()

    async with scripted(script) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        connected, event = await take(stream, 2)
        assert isinstance(connected, Connected)
        assert (connected.resumed, connected.client_id, connected.subscriptions) == (False, "c1", ("*",))
        assert isinstance(event, Event)
        assert (event.type, event.seq, event.key, event.source, event.stale) == ("a.b", 8, "k", "s", True)
        assert event.as_of is not None
        assert (event.timestamp - event.as_of).total_seconds() == 2.123
        assert event.error_code == "RPC_TIMEOUT"
        assert event.data == {"x": 1.1}
        assert bytes(event.data_json) == b'{"x":1.10}'
        assert event.raw.startswith(b'{"type":"a.b"')


async def test_the_request_carries_types_and_token() -> None:
    async with scripted(idle) as gateway, connect(gateway.url, types=["a.*"], token="t", since="e1:5") as stream:
        await take(stream, 1)
        assert query(gateway, 0) == {"types": ["a.*,heartbeat"], "since": ["e1:5"]}
        assert gateway.headers[0]["Authorization"] == "Bearer t"


async def test_without_types_the_defaults_are_asked_for() -> None:
    async with scripted(idle) as gateway, connect(gateway.url) as stream:
        await take(stream, 1)
        assert gateway.requests == ["/ws"]


async def test_a_lost_connection_is_resumed_behind_the_last_live_event() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome("e1", 7, subscriptions=["a", "b.*"])
        await peer.send("a", 1, seq=5, snapshot=True)
        await peer.synced("e1", 7)
        await peer.send("a", 2, seq=8)
        peer.abort()

    async def second(peer: Peer) -> None:
        await peer.welcome("e1", 8, resumed=True)
        await peer.send("a", 3, seq=9)
        await peer.stay()

    async with scripted(first, second) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        items = await take(stream, 6)
        assert [type(item) for item in items] == [Connected, Event, Event, Disconnected, Connected, Event]
        assert isinstance(items[3], Disconnected)
        assert "broke off" in items[3].reason
        assert isinstance(items[4], Connected)
        assert items[4].resumed
        assert query(gateway, 1) == {"types": ["a,b.*"], "since": ["e1:8"]}, "the patterns are never left out"
        assert stream.position == "e1:9"


async def test_a_connection_lost_among_the_snapshots_is_not_resumed_behind_them() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.send("a", 1, seq=5, snapshot=True)
        peer.abort()

    async with scripted(first, idle) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        await take(stream, 4)
        assert gateway.requests == ["/ws", "/ws"]


async def test_with_a_gateway_older_than_synced_the_pong_behind_the_snapshots_makes_the_position_good() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.answer_ping()
        peer.abort()

    async with scripted(first, idle) as gateway, connect(gateway.url, types=["*"], options=AT_ONCE) as stream:
        await take(stream, 3)
        assert query(gateway, 1) == {"types": ["*"], "since": ["e1:7"]}


async def test_resuming_with_more_patterns_than_before_hands_over_the_values_of_the_new_ones() -> None:
    """A resumed connection gets no snapshots: the new ones are subscribed to when it is synced."""

    async def first(peer: Peer) -> None:
        await peer.welcome("e1", 7, resumed=True, subscriptions=["a", "heartbeat"])
        await peer.send("a", 1, seq=8)
        await peer.synced("e1", 8)
        assert await peer.asked() == ["b", "c"]
        await peer.subscribed("e1", 8, ["a", "b", "c", "heartbeat"], ["b", "c"])
        await peer.send("b", 2, seq=3, snapshot=True)
        peer.abort()

    async def second(peer: Peer) -> None:
        await peer.welcome("e1", 8, resumed=True, subscriptions=["a", "heartbeat"])
        await peer.synced("e1", 9)
        assert await peer.asked() == ["b", "c"]
        await peer.subscribed("e1", 9, ["a", "b", "c", "heartbeat"], ["b", "c"])
        await peer.send("b", 2, seq=3, snapshot=True)
        await peer.send("c", 2, seq=4, snapshot=True)
        await peer.synced("e1", 9)
        peer.abort()

    async with (
        scripted(first, second, idle) as gateway,
        connect(gateway.url, types=["a", "b", "c"], since="e1:7", since_types=["a"], options=AT_ONCE) as stream,
    ):
        seen = []
        while len(gateway.requests) < 3:
            [item] = await take(stream, 1)
            if isinstance(item, Event):
                seen.append((item.type, item.seq))
        assert seen == [("a", 8), ("b", 3), ("b", 3), ("c", 4)]
        assert [query(gateway, n) for n in range(3)] == [
            {"types": ["a,heartbeat"], "since": ["e1:7"]},
            {"types": ["a,heartbeat"], "since": ["e1:8"]},
            {"types": ["a,b,c,heartbeat"], "since": ["e1:9"]},
        ]


@pytest.mark.parametrize(("code", "status"), [("FORBIDDEN", 403), ("INVALID_PATTERN", 400)])
async def test_patterns_that_are_refused_later_are_refused_as_they_were_at_once(code: str, status: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7, resumed=True, subscriptions=["a", "heartbeat"])
        await peer.synced("e1", 7)
        await peer.asked()
        await peer.send("error", {"code": code, "message": "not for you", "retryable": False})
        await peer.stay()

    async with (
        scripted(script) as gateway,
        connect(gateway.url, types=["a", "b"], since="e1:7", since_types=["a"], options=AT_ONCE) as stream,
    ):
        await take(stream, 1)
        with pytest.raises(AccessRefused, match="not for you") as refused:
            await take(stream, 1)
        assert refused.value.status == status
        assert [item async for item in stream] == []


async def test_what_is_needed_to_go_on_later_can_be_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7, subscriptions=["a", "heartbeat"])
        await peer.send("a", 1, seq=5, snapshot=True)
        await peer.synced("e1", 7)
        await peer.send("a", 1, seq=8)
        await peer.stay()

    async with scripted(script) as gateway, connect(gateway.url) as stream:
        await take(stream, 2)
        assert (stream.position, stream.position_types) == (None, None)
        await take(stream, 1)
        assert (stream.position, stream.position_types) == ("e1:8", frozenset({"a", "heartbeat"}))


async def test_the_defaults_of_a_restarted_gateway_are_asked_for_anew() -> None:
    """A resume names the patterns that the defaults were; a source that came with the restart is not among them."""

    async def first(peer: Peer) -> None:
        await peer.welcome("e1", 7, subscriptions=["a"])
        await peer.synced("e1", 7)
        peer.abort()

    async def second(peer: Peer) -> None:
        await peer.welcome("e2", 3, subscriptions=["a"])
        await peer.send("gap", {"reason": "epoch_changed", "requested": "e1:7", "skipped": {}})
        for n in range(1000):
            await peer.send("a", n, key=str(n), seq=2, snapshot=True)
        await peer.stay()

    async def third(peer: Peer) -> None:
        await peer.welcome("e2", 3, subscriptions=["a", "b"])
        await peer.send("b", 1, seq=2, snapshot=True)
        await peer.stay()

    async with scripted(first, second, third) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        items = await take(stream, 5)
        assert [type(item) for item in items] == [Connected, Disconnected, Gap, Connected, Event]
        assert isinstance(items[3], Connected)
        assert items[3].subscriptions == ("a", "b")
        assert [query(gateway, n) for n in range(3)] == [{}, {"types": ["a"], "since": ["e1:7"]}, {}]


async def test_a_heartbeat_moves_the_position_and_stays_unseen_where_nobody_asked() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.synced("e1", 7)
        await peer.heartbeat("e1", 20)
        await peer.send("a", 1, seq=21)
        await peer.stay()

    async with scripted(script) as gateway, connect(gateway.url, types=["a"]) as stream:
        assert (await until_event(stream)).type == "a"
    async with scripted(script) as gateway, connect(gateway.url, types=["*"]) as stream:
        assert (await until_event(stream)).type == "heartbeat"
        assert stream.position == "e1:20"


async def test_a_gap_is_a_value() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e2", 7)
        await peer.send("gap", {"reason": "epoch_changed", "requested": "e1:5", "skipped": {"a": 2}})
        await peer.stay()

    async with scripted(script) as gateway, connect(gateway.url, since="e1:5") as stream:
        _, gap = await take(stream, 2)
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.requested, gap.skipped) == ("epoch_changed", "e1:5", {"a": 2})
        assert b'"gap"' in gap.raw
        assert stream.position is None, "there is none before `synced`"


async def test_a_draining_server_says_how_long_to_stay_away() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        data = {"level": "warning", "message": "going", "code": "DRAINING", "retry_after_ms": 2500}
        await peer.send("notification", data)
        await peer.close(1012)

    async with scripted(script) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        _, notice, lost = await take(stream, 3)
        assert isinstance(notice, Event)
        assert notice.data["code"] == "DRAINING"
        assert lost == Disconnected(reason="going", retry_in_s=2.5, code=1012)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4408, 4429])
async def test_after_these_codes_it_connects_again(code: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.close(code, "why")

    async with scripted(script, idle) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        _, lost, again = await take(stream, 3)
        assert lost == Disconnected(reason="why", retry_in_s=0.0, code=code)
        assert isinstance(again, Connected)


def ending(code: int) -> Script:
    """Lets the client in and ends its stream."""

    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.send("connection_error", {"code": code, "message": "the token expired", "retryable": False})
        await peer.close(code)

    return script


@pytest.mark.parametrize("code", [4401, 4403])
async def test_a_token_that_is_refused_at_once_ends_the_stream_with_the_servers_reason(code: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.send("connection_error", {"code": code, "message": "the token expired", "retryable": False})
        await peer.close(code)

    async with scripted(script) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        with pytest.raises(StreamClosed, match="the token expired") as closed:
            await take(stream, 1)
        assert closed.value.code == code
        assert [item async for item in stream] == []
        assert len(gateway.requests) == 1


@pytest.mark.parametrize("code", [4401, 4403])
async def test_a_token_that_ends_in_use_is_shown_once_more_and_the_answer_is_final(code: int) -> None:
    refusal = problem(401, "expected a token that has not expired")
    async with scripted(ending(code), refusal) as gateway, connect(gateway.url, token="t", options=AT_ONCE) as stream:
        _, lost = await take(stream, 2)
        assert lost == Disconnected(reason="the token expired", retry_in_s=0.0, code=code)
        with pytest.raises(AccessRefused, match="not expired"):
            await take(stream, 1)
        assert [item async for item in stream] == []
        assert len(gateway.requests) == 2


@pytest.mark.parametrize("end", [ending(4401), ending(4403), problem(401, "no"), problem(403, "no")], ids=str)
async def test_another_token_is_asked_for_once_and_the_stream_goes_on(end: Script | Response) -> None:
    tokens = iter(["first", "second", "third"])

    async def ask() -> str:
        return next(tokens)

    async def cut(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        peer.abort()

    first = [end] if not isinstance(end, Response) else [cut, end]
    async with (
        scripted(*first, idle) as gateway,
        connect(gateway.url, token=ask, options=AT_ONCE) as stream,
    ):
        items = await take(stream, 1 + len(first) + 1)
        assert [type(item) for item in items] == [Connected, *[Disconnected] * len(first), Connected]
        shown = [headers["Authorization"] for headers in gateway.headers]
        assert shown == ["Bearer first"] * len(first) + ["Bearer second"]


async def test_a_second_token_that_is_refused_ends_the_stream() -> None:
    tokens = iter("abc")

    async def cut(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        peer.abort()

    async with (
        scripted(cut, problem(401, "no")) as gateway,
        connect(gateway.url, token=lambda: next(tokens), options=AT_ONCE) as stream,
    ):
        await take(stream, 3)
        with pytest.raises(AccessRefused, match="no"):
            await take(stream, 1)
        assert [headers["Authorization"] for headers in gateway.headers] == ["Bearer a", "Bearer a", "Bearer b"]


HTML = Response(200, "OK", Headers({"Content-Type": "text/html"}), b"<html>")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (problem(404, "no such page"), "no such page"),
        (problem(421, "another host"), "another host"),
        (HTML, "HTTP 200 OK"),
        (Response(404, "Not Found", Headers(), b"<html>"), "HTTP 404 Not Found"),
        (
            Response(302, "Found", Headers({"Location": "http://sso.example/login?token=t"})),
            "HTTP 302 Found, a redirect to http://sso.example/login that is not followed",
        ),
    ],
    ids=["404", "421", "200", "404 of a proxy", "302"],
)
async def test_whatever_answers_in_the_middle_of_a_deployment_is_waited_for(answer: Response, reason: str) -> None:
    async def cut(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        peer.abort()

    async with scripted(cut, answer, answer, idle) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        items = await take(stream, 5)
        assert [type(item) for item in items] == [Connected, *[Disconnected] * 3, Connected]
        assert items[2:4] == [Disconnected(reason=reason, retry_in_s=0.0)] * 2
    async with scripted(answer) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        with pytest.raises(AccessRefused, match=re.escape(reason)):  # at the beginning it is the address that is wrong
            await take(stream, 1)


async def test_a_redirect_is_not_followed_and_shown_no_token() -> None:
    async with scripted(idle) as other:
        there = other.url.replace("http", "ws") + "/ws"
        redirect = Response(307, "Temporary Redirect", Headers({"Location": there}))
        async with scripted(redirect) as gateway, connect(gateway.url, token="t", options=AT_ONCE) as stream:
            with pytest.raises(AccessRefused, match="not followed"):
                await take(stream, 1)
        assert other.requests == []


async def test_a_message_that_is_too_long_ends_the_stream_instead_of_coming_again_for_ever() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.send("a", "x" * 3000)
        await peer.stay()

    options = StreamOptions(max_message_bytes=2000, close_timeout_s=0.5)
    async with scripted(script) as gateway, connect(gateway.url, options=options) as stream:
        await take(stream, 1)
        with pytest.raises(StreamClosed) as closed:
            await take(stream, 1)
        assert closed.value.code == 1009


@pytest.mark.parametrize("status", [400, 401, 403, 404, 421])
async def test_a_refusal_is_raised_with_the_servers_reason(status: int) -> None:
    async with scripted(problem(status, "no such pattern")) as gateway, connect(gateway.url) as stream:
        with pytest.raises(AccessRefused, match="no such pattern") as refused:
            await take(stream, 1)
        assert refused.value.status == status


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_tried_again_after_the_time_it_names(status: int) -> None:
    refusal = problem(status, "too many clients", Retry_After="3")
    async with scripted(refusal) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        assert await take(stream, 1) == [Disconnected(reason="too many clients", retry_in_s=3.0)]


async def test_where_nobody_listens_it_says_so_and_waits() -> None:
    async with scripted(idle) as gateway:
        pass
    async with connect(gateway.url, options=AT_ONCE) as stream:
        assert await take(stream, 2) == [Disconnected(reason="connection refused", retry_in_s=0.0)] * 2


async def test_a_server_that_is_no_gateway_is_named_so() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-something\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(f"127.0.0.1:{port}", options=AT_ONCE) as stream:
        [lost] = await take(stream, 1)
        assert isinstance(lost, Disconnected)
        assert "no WebSocket there" in lost.reason


STAMPED = b'"timestamp":"2026-11-22T21:40:03.123Z"'


@pytest.mark.parametrize(
    "message",
    [
        b'{"hello":1}',
        b"\xff",
        b'{"type":"\xff",' + STAMPED + b',"data":{}}',
        b'{"type":"gap",' + STAMPED + b',"data":{"reason":"\xff","requested":null,"skipped":{}}}',
        b'{"type":"a",' + STAMPED + b',"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["no event", "no JSON", "no UTF-8", "no UTF-8 in its data", "deep"],
)
async def test_messages_that_are_no_events_end_the_connection(message: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.connection.send(message, text=True)
        await peer.stay()

    async with scripted(script) as gateway, connect(gateway.url, options=AT_ONCE) as stream:
        [lost] = await take(stream, 1)
        assert isinstance(lost, Disconnected)
        assert "something other than events" in lost.reason


async def test_a_server_that_falls_silent_is_left() -> None:
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7, heartbeat_s=0.001)
        peer.connection.transport.pause_reading()
        await over.wait()
        peer.abort()

    options = StreamOptions(backoff=Backoff(first_s=0.0), ping_timeout_s=0.01, close_timeout_s=0.5)
    async with scripted(script, idle) as gateway, connect(gateway.url, options=options) as stream:
        _, lost, again = await take(stream, 3)
        assert isinstance(lost, Disconnected)
        assert "silent" in lost.reason
        assert isinstance(again, Connected)
        over.set()


class Quiet:
    """A connection on which nothing comes three times, while pings are answered."""

    def __init__(self) -> None:
        self.pings = 0

    async def recv(self, *, decode: bool) -> bytes:
        if self.pings < 2:
            await asyncio.sleep(3600)
        return b"at last"

    async def ping(self) -> asyncio.Future[float]:
        self.pings += 1
        pong = asyncio.get_running_loop().create_future()
        pong.set_result(0.0)
        return pong


async def test_a_silent_server_that_answers_pings_is_kept() -> None:
    stream = Stream("h", types=None, token=None, since=None, options=StreamOptions(ping_timeout_s=0.001))
    stream._silence_s = 0.001
    assert await stream._frame(cast("ClientConnection", Quiet())) == b"at last"


async def test_a_cancelled_step_loses_nothing() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await go.wait()
        await peer.send("a", 1, seq=8)
        await peer.stay()

    async with scripted(script) as gateway, connect(gateway.url) as stream:
        await take(stream, 1)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.001)
        go.set()
        [event] = await take(stream, 1)
        assert isinstance(event, Event)
        assert len(gateway.requests) == 1


async def test_failures_in_a_row_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    async with scripted(idle) as gateway:
        pass
    async with connect(gateway.url, options=StreamOptions(backoff=Backoff(first_s=1e-6))) as stream:
        assert [item.retry_in_s for item in await take(stream, 3) if isinstance(item, Disconnected)] == [
            7.5e-7,
            1.5e-6,
            3e-6,
        ]


@pytest.mark.parametrize(("jitter", "share"), [(0.0, 0.5), (0.5, 0.75), (1 - 2**-53, 1.0)])
@virtual
async def test_by_default_the_waits_are_between_half_and_all_of_at_most_8_s(
    jitter: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried_at: list[float] = []

    async def refuse(*_: object, **__: object) -> None:
        tried_at.append(asyncio.get_running_loop().time())
        raise ConnectionRefusedError

    monkeypatch.setattr("random.random", lambda: jitter)
    monkeypatch.setattr("tidegate.client.stream.open_websocket", refuse)
    async with connect() as stream:
        told_s = [item.retry_in_s for item in [await anext(stream) for _ in range(7)] if isinstance(item, Disconnected)]
    assert told_s == pytest.approx([share * bound_s for bound_s in (1, 2, 4, 8, 8, 8, 8)])
    assert [after - before for before, after in pairwise(tried_at)] == pytest.approx(told_s[:-1])


@pytest.mark.parametrize(("heal_s", "waits_s"), [(0.0, [7.5e-7] * 3), (3600.0, [7.5e-7, 1.5e-6, 3e-6])])
async def test_only_a_connection_that_lived_makes_the_waits_short_again(
    heal_s: float, waits_s: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)

    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.close(1001)

    options = StreamOptions(backoff=Backoff(first_s=1e-6, heal_s=heal_s))
    async with scripted(script) as gateway, connect(gateway.url, options=options) as stream:
        assert [item.retry_in_s for item in await take(stream, 6) if isinstance(item, Disconnected)] == waits_s


async def test_leaving_closes_the_connection_politely() -> None:
    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.stay()
        closed.set_result(peer.connection.close_code)

    async with scripted(script) as gateway:
        async with connect(gateway.url) as stream:
            await take(stream, 1)
        assert await asyncio.wait_for(closed, 20) == 1000
        assert [item async for item in stream] == []


@pytest.mark.parametrize("arguments", [{"url": "nonsense://"}, {"since": "7"}])
async def test_bad_arguments_are_refused_before_anything_is_sent(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        async with connect(**arguments):  # type: ignore[arg-type]
            pass


async def test_patterns_that_the_token_does_not_cover_any_more_are_told_and_not_asked_for_again() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome("e1", 7, subscriptions=["a", "b.*"])
        await peer.synced("e1", 7)
        await peer.send("unsubscribed", {"types": ["a"], "removed": ["b.*"]})
        await peer.send("a", 1, seq=9)
        peer.abort()

    async with scripted(first, idle) as gateway, connect(gateway.url, types=["a", "b.*"], options=AT_ONCE) as stream:
        _, told, event, _, _ = await take(stream, 5)
        assert isinstance(told, Event)
        assert (told.type, told.seq, told.data) == ("unsubscribed", None, {"types": ["a"], "removed": ["b.*"]})
        assert isinstance(event, Event)
        assert query(gateway, 1) == {"types": ["a"], "since": ["e1:9"]}
