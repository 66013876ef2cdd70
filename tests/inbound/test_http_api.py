"""Every route and every refusal of the HTTP API, over a real socket."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import jsonschema
import pytest
import structlog
from fanout import FakeChannel, draft
from serving import GRANTS, WALL, WALL_TEXT, Answer, RawClient, Serving, request, serving

from tidegate.core.access.grant import Grant, Role
from tidegate.core.polling.breaker_values import BreakerFacts
from tidegate.core.polling.source_values import SourceView
from tidegate.core.problem import UNFORESEEN
from tidegate.errors import MessageError, MessageErrorCode
from tidegate.inbound.http_api.documents.asyncapi import asyncapi_document
from tidegate.inbound.http_api.pages import web_files
from tidegate.inbound.http_api.scraping import accepts_gzip, gathered, wants_openmetrics
from tidegate.inbound.http_api.shown import BreakerRecord, BreakerStatus, SourceStatus
from tidegate.runtime.supervisor import ReadinessStatus

PROBLEM = "application/problem+json"

FILES = [*web_files()]
"""The paths of the files for browsers; `test_pages.py` is about them."""


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def check_problem(answer: Answer, status: int, *words: str) -> None:
    """A problem of RFC 9457 with `status`, that says `words`."""
    assert answer.status == status
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["status"] == status
    assert set(answer.json) == {"type", "title", "status", "detail", "request_id"}
    for word in words:
        assert word in answer.json["detail"]


async def test_health() -> None:
    async with serving() as gate:
        answer = await gate.ask("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["server"] == "tidegate"
    assert answer.headers["date"].endswith("GMT")


@pytest.mark.parametrize(
    ("status", "stale", "code", "body"),
    [
        ("ready", 0, 200, {"status": "ready"}),
        ("degraded", 2, 200, {"status": "degraded", "stale": 2}),
        ("starting", 1, 503, {"status": "starting"}),
        ("draining", 0, 503, {"status": "draining"}),
    ],
)
async def test_readiness(status: ReadinessStatus, stale: int, code: int, body: Any) -> None:
    async with serving() as gate:
        gate.supervisor.status, gate.supervisor.stale = status, stale
        answer = await gate.ask("GET", "/readyz")
    assert (answer.status, answer.json) == (code, body)
    assert ("retry-after" in answer.headers) == (code == 503)


SESSION = {
    "version": "0.1.0",
    "auth": "none",
    "authenticated": True,
    "roles": ["subscriber", "publisher", "admin"],
    "types": None,
    "expires_at": None,
    "status": "ready",
    "retry_after_s": None,
}


async def session(gate: Serving, **headers: str) -> Any:
    answer = await gate.ask("GET", "/api/v1/session", **headers)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json
    assert body.pop("now").endswith("Z")
    return body


async def test_a_session_without_authentication_may_do_everything() -> None:
    async with serving() as gate:
        assert await session(gate) == SESSION


async def test_a_session_tells_what_a_token_may_do() -> None:
    grants = {**GRANTS, "brief": Grant(roles=frozenset({Role.SUBSCRIBER}), expires_at=WALL)}
    grants["endless"] = Grant(roles=frozenset({Role.SUBSCRIBER}), expires_at=1e18)
    async with serving(grants=grants) as gate:
        subscriber = {**SESSION, "auth": "token", "roles": ["subscriber"]}
        assert await session(gate, **bearer("all")) == {**SESSION, "auth": "token"}
        assert await session(gate, **bearer("pub")) == {**subscriber, "roles": ["publisher"]}
        assert await session(gate, **bearer("system")) == {**subscriber, "types": ["system.*"]}
        assert await session(gate, **bearer("brief")) == {**subscriber, "expires_at": WALL_TEXT}
        assert await session(gate, **bearer("endless")) == subscriber


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer("\xfc"), {"Authorization": "Basic YTpi"}])
async def test_a_session_without_a_valid_token_is_no_refusal(headers: dict[str, str]) -> None:
    async with serving(grants=GRANTS) as gate:
        stranger = {**SESSION, "auth": "token", "authenticated": False, "roles": [], "types": []}
        assert await session(gate, **headers) == stranger
        answer = await gate.ask("GET", "/api/v1/session?token=all")
        assert answer.json["authenticated"] is False  # as on every route but the streams
        assert gate.house.metrics.named("request_refused") == []


async def test_a_session_says_when_a_stream_may_be_opened() -> None:
    async with serving(max_clients=1) as gate:
        gate.house.started("app.a")
        assert 1 <= (await session(gate))["retry_after_s"] <= 5
        gate.house.gateway.clients.draining, gate.supervisor.status = True, "draining"
        body = await session(gate)
        assert (body["status"], body["authenticated"]) == ("draining", True)
        assert body["retry_after_s"] >= 1
        assert gate.house.metrics.named("request_refused") == []


async def test_a_session_does_not_know_yet_while_the_keys_are_not_there() -> None:
    class NoKeysYet:
        def verify(self, token: str) -> Grant:
            code = MessageErrorCode.UNAUTHENTICATED
            raise MessageError(code, "try again" if token else "got none", retryable=bool(token))

    async with serving(authenticator=NoKeysYet()) as gate:
        unknown = {**SESSION, "auth": "token", "authenticated": None, "roles": [], "types": [], "retry_after_s": 2}
        assert await session(gate, **bearer("x")) == unknown
        assert await session(gate) == {**unknown, "authenticated": False, "retry_after_s": None}


async def test_a_page_of_a_listed_origin_may_ask_for_its_session() -> None:
    async with serving(grants=GRANTS, gate={"origins": ["https://app.example"]}) as gate:
        answer = await gate.ask("GET", "/api/v1/session", Origin="https://app.example", **bearer("all"))
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        check_problem(await gate.ask("GET", "/api/v1/session", Origin="https://evil.example"), 403)


async def test_status() -> None:
    async with serving() as gate:
        await gate.house.gateway.publish([draft("system.status", 1, retain=True)])
        gate.house.clock.advance(2.5)
        status = (await gate.ask("GET", "/api/v1/status")).json
    assert status["version"] == "0.1.0"
    assert (status["epoch"], status["seq"]) == ("e1", 1)
    assert (status["uptime_s"], status["clients"]) == (2.5, 0)
    assert status["sources"][1] == {
        "type": "storage.update",
        "backend": "disks",
        "interval_s": 5.0,
        "timeout_s": 2.0,
        "max_age_s": 10.0,
        "on_change": False,
        "stale": True,
        "as_of": None,
        "error_code": "RPC_TIMEOUT",
        "next_poll_at": WALL_TEXT,
        "missed_ticks": 0,
    }
    assert [breaker["name"] for breaker in status["breakers"]] == ["engine", "disks", "disks/storage.update"]
    assert status["breakers"][2]["history"] == [
        {"at": WALL_TEXT, "from": None, "to": "closed", "reason": "start"},
        {"at": WALL_TEXT, "from": "closed", "to": "open", "reason": "failure_threshold"},
    ]


async def test_breakers_and_the_worst_of_them() -> None:
    async with serving() as gate:
        answer = (await gate.ask("GET", "/api/v1/status/circuit-breaker")).json
    assert answer["state"] == "open"
    assert answer["breakers"][2] == {
        "name": "disks/storage.update",
        "state": "open",
        "forced": False,
        "since": WALL_TEXT,
        "failure_count": 5,
        "failure_threshold": 7,
        "success_count": 3,
        "open_count": 0,
        "open_max_s": 15.0,
        "half_open_successes": 1,
        "retry_at": WALL_TEXT,
        "last_error": {"code": "RPC_TIMEOUT", "message": "no answer in 2 s", "at": WALL_TEXT},
    }


@pytest.mark.parametrize("name", ["engine", "disks/storage.update", "disks%2Fstorage.update"])
async def test_one_breaker(name: str) -> None:
    async with serving() as gate:
        answer = await gate.ask("GET", f"/api/v1/status/circuit-breaker/{name}")
    assert (answer.status, answer.json["name"]) == (200, name.replace("%2F", "/"))


async def test_an_unknown_breaker_is_told_the_known_ones() -> None:
    async with serving() as gate:
        answer = await gate.ask("GET", "/api/v1/status/circuit-breaker/nope")
    check_problem(answer, 404, "'nope'", "engine, disks")


@pytest.mark.parametrize("action", ["force-open", "force-closed", "reset"])
async def test_breaker_commands_say_who_gave_them(action: str) -> None:
    async with serving(grants=GRANTS) as gate:
        path = f"/api/v1/circuit-breaker/disks/storage.update/{action}"
        answer = await gate.ask("POST", path, **bearer("all"))
    assert (answer.status, answer.json["name"]) == (200, "disks/storage.update")
    assert gate.supervisor.commands == [("disks/storage.update", action, "root at 127.0.0.1")]


@pytest.mark.parametrize("path", ["nope/reset", "engine/explode", "engine"])
async def test_unknown_breaker_commands(path: str) -> None:
    async with serving() as gate:
        check_problem(await gate.ask("POST", f"/api/v1/circuit-breaker/{path}"), 404)
    assert gate.supervisor.commands == []


async def test_snapshots_are_those_of_a_new_subscriber() -> None:
    async with serving() as gate:
        await gate.house.gateway.publish([draft("system.status", {"n": 1}, retain=True), draft("app.news", 2)])
        whole = await gate.ask("GET", "/api/v1/snapshot")
        one = await gate.ask("GET", "/api/v1/snapshot/system.status")
        _, channel, received = gate.house.started("system.status")
    assert (whole.json["epoch"], whole.json["seq"]) == ("e1", 2)
    assert whole.json == one.json
    assert one.json["events"] == [event for event in received if event.get("snapshot")]
    assert len(one.json["events"]) == 1
    assert channel.ended is None


async def test_a_snapshot_keeps_the_digits() -> None:
    async with serving() as gate:
        body = b'{"type":"app.n","retain":true,"data":[1.10,1152921504606846977]}'
        await gate.ask("POST", "/api/v1/events", body)
        answer = await gate.ask("GET", "/api/v1/snapshot/app.n")
    assert b'"data":[1.10,1152921504606846977]' in answer.body


async def test_a_known_type_without_a_value_has_no_events() -> None:
    async with serving() as gate:
        answer = await gate.ask("GET", "/api/v1/snapshot/system.status")
    assert (answer.status, answer.json["events"]) == (200, [])


async def test_an_unknown_type_has_no_snapshot() -> None:
    async with serving() as gate:
        check_problem(await gate.ask("GET", "/api/v1/snapshot/no.such"), 404, "'no.such'")


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/events/", "/gate/api/v1/events"])
async def test_publish_one(path: str) -> None:
    async with serving(http={"root_path": "/gate"}) as gate:
        _, channel, _ = gate.house.started("app.*")
        body = b'{"type":"app.news","key":"k","data": {"a" : [1.10, "\\n"]} }'
        answer = await gate.ask("POST", path, body)
        assert (answer.status, answer.json) == (202, {"epoch": "e1", "seq": 1})
        frames = bytes(channel.taken)
        received = channel.received()
    assert b'"data":{"a":[1.10,"\\n"]}' in frames
    assert (received[0]["key"], received[0]["seq"]) == ("k", 1)


async def test_publish_several_in_one_go() -> None:
    async with serving() as gate:
        events = [{"type": "app.a", "data": 1}, {"type": "app.b", "data": None, "retain": True}]
        answer = await gate.ask("POST", "/api/v1/events", events)
        assert (answer.status, answer.json["seq"]) == (202, 2)
        held = (await gate.ask("GET", "/api/v1/snapshot/app.b")).json["events"]
        assert (await gate.ask("POST", "/api/v1/events", [])).json["seq"] == 2
    assert [event["data"] for event in held] == [None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"1",
        b'"text"',
        b"[[]]",
        b'{"data":1}',
        b'{"type":"app.a"}',
        b'{"type":7,"data":1}',
        b'{"type":"No Type","data":1}',
        b'{"type":"app.*","data":1}',
        b'{"type":"app.a","data":1,"ttl":5}',
        b'{"type":"app.a","data":1,"ttl_s":0}',
        b'{"type":"app.a","data":1,"ttl_s":1e999}',
        b'{"type":"app.a","data":1,"key":""}',
        b'{"type":"app.a","data":1,"key":5}',
        b'{"type":"app.a","data":NaN}',
        b'{"type":"app.a","data":"\xff"}',
        b'{"type":"app.a","data":"\\ud800"}',
        b'{"type":"app.a","data":' + b"[" * 1500 + b"]" * 1500 + b"}",
        b'[{"type":"app.a","data":1},{"type":"app.b"}]',
    ],
)
async def test_malformed_publications_publish_nothing(body: bytes) -> None:
    async with serving() as gate:
        check_problem(await gate.ask("POST", "/api/v1/events", body), 400)
        assert gate.house.gateway.position.seq == 0


async def test_a_byte_order_mark_in_front_of_a_publication_is_skipped() -> None:
    async with serving() as gate:
        answer = await gate.ask("POST", "/api/v1/events", b'\xef\xbb\xbf{"type":"app.news","data":1}')
        assert (answer.status, answer.json["seq"]) == (202, 1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"type":"app.a","data":"\\ud83d", "key":"behind it"}', "half a surrogate pair, \\ud83d, at byte 24"),
        (b'[{"type":"app.a","data":1},{"type":"app.a","data":["\xff"]}]', "b'\\xff' at byte 52"),
    ],
)
async def test_what_is_wrong_in_a_publication_is_told_by_its_place_in_the_body(body: bytes, words: str) -> None:
    async with serving() as gate:
        check_problem(await gate.ask("POST", "/api/v1/events", body), 400, words)


@pytest.mark.parametrize("key", ["a\nb", "\u0000", "\u007f", "\u202etxt.exe", "a\u200b", "\ufeff", "\U000e0041"])
async def test_a_key_with_characters_that_nobody_sees_publishes_nothing(key: str) -> None:
    async with serving() as gate:
        events = [{"type": "app.a", "data": 1}, {"type": "app.a", "data": 1, "key": key}]
        check_problem(await gate.ask("POST", "/api/v1/events", events), 400, "control or format characters")
        assert gate.house.gateway.position.seq == 0


@pytest.mark.parametrize("event_type", ["system.status", "heartbeat", "circuit_breaker.state", "welcome"])
async def test_reserved_types_publish_nothing(event_type: str) -> None:
    async with serving() as gate:
        events = [{"type": "app.a", "data": 1}, {"type": event_type, "data": 1}]
        check_problem(await gate.ask("POST", "/api/v1/events", events), 403, event_type)
        assert gate.house.gateway.position.seq == 0


async def test_data_over_the_limit_publishes_nothing() -> None:
    async with serving(event_bytes=100) as gate:
        events = [{"type": "app.a", "data": 1}, {"type": "app.b", "data": "x" * 100}]
        check_problem(await gate.ask("POST", "/api/v1/events", events), 413, "100 bytes", "102")
        assert gate.house.gateway.position.seq == 0


async def test_a_body_announced_too_long_is_refused_unread() -> None:
    async with serving() as gate:
        head = request("POST", "/api/v1/events", host=f"127.0.0.1:{gate.port}", Expect="100-continue").replace(
            b"\r\n\r\n", b"\r\nContent-Length: 1000000000\r\n\r\n"
        )
        answer = await gate.send(head)
    check_problem(answer, 413, "4096", "limits.publish_bytes")


async def test_an_endless_body_is_refused_when_it_is_too_long() -> None:
    async with serving() as gate:
        client = await RawClient.open(gate.port)
        head = request("POST", "/api/v1/events", host="127.0.0.1")
        head = head.replace(b"Connection: close", b"Transfer-Encoding: chunked")
        client.writer.write(head + b"1000\r\n" + b"x" * 4096 + b"\r\n1\r\nx")
        assert b" 413 " in await client.until(b"\r\n\r\n")
        await client.close()


async def test_a_body_as_long_as_the_limit_is_read() -> None:
    async with serving() as gate:
        body = json.dumps({"type": "app.a", "data": ""}).encode()
        body = body.replace(b'""', b'"%b"' % (b"x" * (4096 - len(body))))
        assert (await gate.ask("POST", "/api/v1/events", body)).status == 202
        check_problem(await gate.ask("POST", "/api/v1/events", body + b" "), 413)


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with serving(http={"body_s": 0.05}) as gate:
        head = request("POST", "/api/v1/events", b"{", host="127.0.0.1").replace(b"Length: 1", b"Length: 9")
        check_problem(await gate.send(head), 408, "0.05 s", "1 bytes")


async def test_a_client_that_leaves_in_mid_body_is_no_failure() -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving() as gate:
            client = await RawClient.open(gate.port)
            head = request("POST", "/api/v1/events", b"{", host="127.0.0.1").replace(b"Length: 1", b"Length: 9")
            client.writer.write(head)
            await client.writer.drain()
            await client.close()
            assert (await gate.ask("GET", "/healthz")).status == 200
    assert [entry for entry in logs if entry["log_level"] not in {"debug", "info"}] == []


async def test_forget() -> None:
    async with serving() as gate:
        await gate.ask("POST", "/api/v1/events", {"type": "app.a", "key": "k 1", "data": 1, "retain": True})
        _, channel, _ = gate.house.started("app.*")
        answer = await gate.ask("DELETE", "/api/v1/snapshot/app.a?key=k%201")
        assert (answer.status, answer.json) == (200, {"epoch": "e1", "seq": 2})
        gone = channel.received()
        again = await gate.ask("DELETE", "/api/v1/snapshot/app.a?key=k%201")
        left = await gate.ask("GET", "/api/v1/snapshot/app.a")
    assert [(event["type"], event["key"], event["gone"]) for event in gone] == [("app.a", "k 1", True)]
    check_problem(again, 404, "'k 1'")
    assert left.json["events"] == []


@pytest.mark.parametrize(("event_type", "status"), [("system.status", 403), ("source.freshness", 403), ("A", 400)])
async def test_what_is_not_published_is_not_forgotten(event_type: str, status: int) -> None:
    async with serving() as gate:
        check_problem(await gate.ask("DELETE", f"/api/v1/snapshot/{event_type}"), status, event_type)


async def test_poll() -> None:
    async with serving() as gate:
        answer = await gate.ask("POST", "/api/v1/backends/engine/poll")
        assert (answer.status, answer.json) == (202, {"backend": "engine"})
        check_problem(await gate.ask("POST", "/api/v1/backends/nope/poll"), 404, "'nope'")
    assert gate.supervisor.polled == [("engine",)]


async def test_poll_of_one_source() -> None:
    path = "/api/v1/backends/engine/poll"
    async with serving() as gate:
        for query in ("?source=system.status", "?source=system.status&source=system.status"):
            assert (await gate.ask("POST", path + query)).status == 202
        for unknown in ("nope", "storage.update", "system.*", "system.status,system.status", ""):
            check_problem(await gate.ask("POST", f"{path}?source=system.status&source={unknown}"), 404, f"'{unknown}'")
    assert gate.supervisor.polled == [("engine", "system.status"), ("engine", "system.status", "system.status")]


async def test_clients() -> None:
    async with serving() as gate:
        channel = FakeChannel(soft_bytes=10)
        connection, _, _ = gate.house.started("system.*", channel=channel)
        channel.block()
        for n in range(3):
            await gate.house.gateway.publish([draft("system.status", n, retain=True)])
            await asyncio.sleep(0)
        answer = (await gate.ask("GET", "/api/v1/clients")).json
    [client] = answer["clients"]
    assert client.pop("queued_bytes") == connection.subscriber.waiting_bytes > 0
    assert client == {
        "id": connection.id,
        "address": "192.0.2.1",
        "request_id": "",
        "subscriptions": ["system.*"],
        "connected_at": WALL_TEXT,
        "delivered": 1,
        "skipped": {"system.status": 1},
    }


async def test_metrics_are_those_that_the_token_covers() -> None:
    async with serving(grants=GRANTS) as gate:
        answer = await gate.ask("GET", "/metrics", **bearer("system"))
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.body == b"# covered: ['system.*']\n# openmetrics: False\n"


async def test_metrics_come_as_openmetrics_and_compressed_to_whom_that_suits() -> None:
    accepts = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2", "Accept-Encoding": "gzip"}
    async with serving(grants=GRANTS) as gate:
        answer = await gate.ask("GET", "/metrics", **bearer("all"), **accepts)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["vary"]
    assert gzip.decompress(answer.body) == b"# covered: ['*']\n# openmetrics: True\n"


async def test_the_event_loop_turns_while_metrics_are_written() -> None:
    turns = 0

    def pieces() -> Iterator[bytes]:
        nonlocal turns
        for _ in range(10):
            asyncio.get_running_loop().call_soon(count)
            yield f"{turns} ".encode()

    def count() -> None:
        nonlocal turns
        turns += 1

    assert await gathered(pieces(), gzip=False) == b"0 1 2 3 4 5 6 7 8 9 "


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0, */*", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3", True),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.3", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("TEXT/PLAIN;Q=0.1, Application/OpenMetrics-Text;Q=0.9", True),
    ],
)
def test_which_format_of_metrics_a_client_prefers(accept: str, *, openmetrics: bool) -> None:
    assert wants_openmetrics(accept) == openmetrics


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("*", True), ("br", False)],
)
def test_which_clients_take_gzip(accept_encoding: str, *, accepted: bool) -> None:
    assert accepts_gzip(accept_encoding) == accepted


# who may come in

NEEDS = [
    ("GET", "/api/v1/status", "sub"),
    ("GET", "/api/v1/status/circuit-breaker", "sub"),
    ("GET", "/api/v1/status/circuit-breaker/engine", "sub"),
    ("GET", "/api/v1/snapshot", "sub"),
    ("GET", "/api/v1/snapshot/system.status", "sub"),
    ("GET", "/api/v1/events", "sub"),
    ("GET", "/metrics", "sub"),
    ("POST", "/api/v1/events", "pub"),
    ("DELETE", "/api/v1/snapshot/app.a", "pub"),
    ("POST", "/api/v1/backends/engine/poll", "pub"),
    ("GET", "/api/v1/clients", "all"),
    ("POST", "/api/v1/circuit-breaker/engine/reset", "all"),
    ("POST", "/api/v1/reload", "all"),
]


@pytest.mark.parametrize(("method", "path", "token"), NEEDS)
async def test_roles(method: str, path: str, token: str) -> None:
    wrong = {"sub": "pub", "pub": "sub", "all": "sub"}[token]
    async with serving(grants=GRANTS) as gate:
        for headers in ({}, bearer("wrong"), {"Authorization": "Basic YTpi"}):
            answer = await gate.ask(method, path, **headers)
            check_problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        check_problem(await gate.ask(method, path, **bearer(wrong)), 403, "role")
        if path != "/api/v1/events" or method == "POST":
            assert (await gate.ask(method, path, **bearer(token))).status not in {401, 403}


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/asyncapi.json",
        *FILES,
    ],
)
async def test_what_needs_no_token(path: str) -> None:
    async with serving(grants=GRANTS) as gate:
        assert (await gate.ask("GET", path)).status == 200


async def test_a_token_in_the_query_opens_streams_only() -> None:
    async with serving(grants=GRANTS) as gate:
        check_problem(await gate.ask("GET", "/api/v1/status?token=all"), 401)


async def test_a_narrow_token_sees_what_it_covers() -> None:
    async with serving(grants=GRANTS) as gate:
        await gate.house.gateway.publish(
            [draft("system.status", 1, retain=True), draft("storage.update", 2, retain=True)]
        )
        status = (await gate.ask("GET", "/api/v1/status", **bearer("system"))).json
        breakers = (await gate.ask("GET", "/api/v1/status/circuit-breaker", **bearer("system"))).json
        hidden = await gate.ask("GET", "/api/v1/status/circuit-breaker/disks", **bearer("system"))
        snapshot = (await gate.ask("GET", "/api/v1/snapshot", **bearer("system"))).json
        other = await gate.ask("GET", "/api/v1/snapshot/storage.update", **bearer("system"))
    assert [source["type"] for source in status["sources"]] == ["system.status"]
    assert [breaker["name"] for breaker in status["breakers"]] == ["engine"]
    assert (breakers["state"], len(breakers["breakers"])) == ("closed", 1)
    check_problem(hidden, 404)
    assert "storage" not in hidden.json["detail"]
    assert [event["type"] for event in snapshot["events"]] == ["system.status"]
    check_problem(other, 404)


@pytest.mark.parametrize("path", ["/", "/api/v1/session", "/api/v1/status", "/no/such", "/ws"])
async def test_a_foreign_host_is_refused_everywhere(path: str) -> None:
    async with serving() as gate:
        check_problem(await gate.ask("GET", path, Host="evil.example"), 421, "server.allowed_hosts", "evil.example")
        check_problem(await gate.ask("OPTIONS", path, Host="evil.example"), 421)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("host", ["evil.example", "10.244.1.7:12080", "", "a, b"])
async def test_a_probe_is_answered_whatever_host_it_asks_for(path: str, host: str) -> None:
    async with serving(http={"root_path": "/gw"}) as gate:
        for prefixed in (path, f"/gw{path}"):
            assert (await gate.ask("GET", prefixed, Host=host)).status == 200
        assert (await gate.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())).status == 200
        check_problem(await gate.ask("GET", f"/api/v1{path}", Host=host), 421)


async def test_two_hosts_are_no_host() -> None:
    async with serving() as gate:
        twice = request("GET", "/api/v1/status", host="127.0.0.1").replace(
            b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n"
        )
        check_problem(await gate.send(twice), 421)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/events"), ("DELETE", "/api/v1/snapshot/app.a"), ("GET", "/api/v1/events"), ("GET", "/")],
)
async def test_a_foreign_origin_is_refused(method: str, path: str) -> None:
    async with serving() as gate:
        answer = await gate.ask(method, path, {"type": "app.a", "data": 1}, Origin="http://evil.example")
        check_problem(answer, 403, "server.allowed_origins", "evil.example")
        assert "access-control-allow-origin" not in answer.headers
        assert gate.house.gateway.position.seq == 0


async def test_an_allowed_origin_gets_cors_headers() -> None:
    async with serving(gate={"origins": ["https://ok.example"]}) as gate:
        answer = await gate.ask("GET", "/api/v1/status", Origin="https://ok.example")
        refused = await gate.ask("GET", "/api/v1/snapshot/no.such", Origin="https://ok.example")
        same = await gate.ask("GET", "/healthz", Origin=gate.url)
    for one in (answer, refused):
        assert one.headers["access-control-allow-origin"] == "https://ok.example"
        assert one.headers["vary"] == "Origin"
    assert same.status == 200


async def test_preflight() -> None:
    async with serving(grants=GRANTS, gate={"origins": ["https://ok.example"]}) as gate:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        answer = await gate.ask("OPTIONS", "/api/v1/events", Origin="https://ok.example", **asked)
        refused = await gate.ask("OPTIONS", "/api/v1/events", Origin="https://evil.example", **asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://ok.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    check_problem(refused, 403)
    assert "access-control-allow-origin" not in refused.headers


async def test_the_address_behind_a_trusted_proxy() -> None:
    async with serving(grants=GRANTS, gate={"trusted_proxies": ["127.0.0.1"]}) as gate:
        path = "/api/v1/circuit-breaker/engine/reset"
        await gate.ask("POST", path, **bearer("all"), X_Forwarded_For="198.51.100.9, 203.0.113.7")
    assert gate.supervisor.commands == [("engine", "reset", "root at 203.0.113.7")]


@pytest.mark.parametrize("path", ["/gate/healthz", "/healthz"])
async def test_a_proxy_may_leave_the_prefix_or_take_it_away(path: str) -> None:
    async with serving(http={"root_path": "/gate"}) as gate:
        assert (await gate.ask("GET", path)).status == 200
        check_problem(await gate.ask("GET", "/gatehealthz"), 404)


async def test_the_prefix_itself_leads_to_the_page() -> None:
    async with serving(http={"root_path": "/gate"}) as gate:
        answer = await gate.ask("GET", "/gate")
    assert (answer.status, answer.headers["location"]) == (308, "/gate/")


# the rest


async def test_unknown_paths() -> None:
    async with serving() as gate:
        check_problem(await gate.ask("GET", "/no/such"), 404, "/no/such", "openapi.json")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/v1/status", "GET, HEAD, OPTIONS"),
        ("PUT", "/api/v1/events", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/api/v1/circuit-breaker/engine/reset", "OPTIONS, POST"),
        ("PATCH", "/api/v1/snapshot/app.a", "DELETE, GET, HEAD, OPTIONS"),
    ],
)
async def test_wrong_methods(method: str, path: str, allowed: str) -> None:
    async with serving() as gate:
        answer = await gate.ask(method, path)
    check_problem(answer, 405, allowed)
    assert answer.headers["allow"] == allowed


async def test_options() -> None:
    async with serving(grants=GRANTS) as gate:
        answer = await gate.ask("OPTIONS", "/api/v1/events")
    assert answer.status == 204
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_head_is_get_without_a_body() -> None:
    async with serving() as gate:
        whole, head = await gate.ask("GET", "/"), await gate.ask("HEAD", "/")
        refused = await gate.ask("HEAD", "/no/such")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))
    assert (refused.status, refused.body) == (404, b"")


async def test_head_of_a_stream_ends_and_leaves_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as gate:
        answer = await gate.ask("HEAD", "/api/v1/events")
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/event-stream", b"")
        while gate.house.gateway.clients.connections:
            await asyncio.sleep(0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_failure_of_ours_tells_nothing_and_is_logged() -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving() as gate:
            gate.supervisor.fails = RuntimeError("the secret inside")
            answer = await gate.ask("GET", "/api/v1/status?token=hush", **bearer("hush"))
    check_problem(answer, 500)
    assert answer.body == UNFORESEEN.body(answer.headers["x-request-id"])
    assert b"secret" not in answer.body
    failed = [entry for entry in logs if entry["log_level"] == "error"]
    assert [(entry["path"], str(entry["exc_info"])) for entry in failed] == [("/api/v1/status", "the secret inside")]
    assert "hush" not in str(logs)


@pytest.mark.parametrize("in_two", [False, True])
async def test_a_failure_of_ours_while_publishing_is_answered_and_logged(
    in_two: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the secret inside")

    with structlog.testing.capture_logs() as logs:
        async with serving() as gate:
            monkeypatch.setattr(gate.house.gateway.publishers, "start_publish", fails)
            sent = request("POST", "/api/v1/events", b'{"type":"app.a","data":1}', host="localhost")
            answer = await (gate.send_in_two(sent) if in_two else gate.send(sent))
    check_problem(answer, 500)
    assert answer.body == UNFORESEEN.body(answer.headers["x-request-id"])
    assert b"secret" not in answer.body
    failed = [entry for entry in logs if entry["log_level"] == "error"]
    assert [(entry["path"], str(entry["exc_info"])) for entry in failed] == [("/api/v1/events", "the secret inside")]


async def test_a_plain_request_to_the_websocket() -> None:
    async with serving() as gate:
        answer = await gate.ask("GET", "/ws")
    check_problem(answer, 426, "WebSocket")
    assert answer.headers["upgrade"] == "websocket"


async def test_the_websocket_is_on_the_same_port() -> None:
    async with (
        serving() as gate,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{gate.url}/ws?types=app.a") as websocket,
    ):
        for told in ("welcome", "synced"):
            assert json.loads(await websocket.receive_str())["type"] == told
        await gate.ask("POST", "/api/v1/events", {"type": "app.a", "data": 1})
        assert json.loads(await websocket.receive_str())["type"] == "app.a"


# the document


async def openapi(gate: Serving) -> Any:
    return (await gate.ask("GET", "/openapi.json")).json


async def test_the_document_has_every_route_of_the_contract() -> None:
    async with serving(grants=GRANTS) as gate:
        document = await openapi(gate)
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/api/v1/session"),
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/status/circuit-breaker"),
        ("GET", "/api/v1/status/circuit-breaker/{name}"),
        ("POST", "/api/v1/circuit-breaker/{name}/{action}"),
        ("POST", "/api/v1/reload"),
        ("GET", "/api/v1/snapshot"),
        ("GET", "/api/v1/snapshot/{event_type}"),
        ("DELETE", "/api/v1/snapshot/{event_type}"),
        ("POST", "/api/v1/events"),
        ("GET", "/api/v1/events"),
        ("POST", "/api/v1/backends/{name}/poll"),
        ("GET", "/api/v1/clients"),
        ("GET", "/metrics"),
        ("GET", "/ws"),
        ("GET", "/openapi.json"),
        ("GET", "/asyncapi.json"),
        *(("GET", path) for path in FILES),
    }
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert {"403", "421", "500"} <= set(operation["responses"])
        assert ("401" in operation["responses"]) >= ("security" in operation)


async def test_the_document_asks_for_tokens_only_where_they_are_asked_for() -> None:
    async with serving() as gate:
        assert "security" not in json.dumps((await openapi(gate))["paths"])
    async with serving(grants=GRANTS) as gate:
        paths = (await openapi(gate))["paths"]
    assert paths["/api/v1/status"]["get"]["security"] == [{"bearer": ["subscriber"]}]
    assert "security" not in paths["/healthz"]["get"]


DESCRIBED = [
    "/healthz",
    "/readyz",
    "/api/v1/status",
    "/api/v1/status/circuit-breaker",
    "/api/v1/snapshot",
    "/api/v1/clients",
]


@pytest.mark.parametrize("path", DESCRIBED)
async def test_answers_are_what_the_document_says(path: str) -> None:
    async with serving() as gate:
        value = draft("system.status", 1, retain=True, source="engine", stale=False, as_of=1.0)
        await gate.house.gateway.publish([value])
        gate.house.started("*")
        document = await openapi(gate)
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate((await gate.ask("GET", path)).json, {**schema, "components": document["components"]})


def test_every_fact_of_a_source_and_of_a_breaker_is_shown() -> None:
    assert {*SourceStatus.__struct_fields__} == {*SourceView.__struct_fields__}
    assert {*BreakerFacts.__struct_fields__} < {*BreakerStatus.__struct_fields__} < {*BreakerRecord.__struct_fields__}


async def test_the_asyncapi_document_is_of_this_gateway() -> None:
    async with serving(grants=GRANTS, http={"root_path": "/live"}) as gate:
        answer = await gate.ask("GET", "/asyncapi.json")
    expected = asyncapi_document(version="0.1.0", url="http://127.0.0.1", root_path="/live", auth_required=True)
    assert (answer.headers["content-type"], answer.body) == ("application/json", expected)
