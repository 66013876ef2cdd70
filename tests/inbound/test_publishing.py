"""What publishers are answered over HTTP when they send too much, or what nobody here reads."""

import asyncio
import json
from typing import Any

import pytest
from serving import GRANTS, Serving, serving

from tidegate.core.rate import Rate

EVENTS = "/api/v1/events"
ONE = {"type": "app.a", "data": 1}


async def detail(gate: Serving, body: Any, expected: int, **headers: str) -> str:
    """What a POST of `body` is told, which is refused."""
    answer = await gate.ask("POST", EVENTS, body, **headers)
    assert (answer.status, answer.headers["content-type"]) == (expected, "application/problem+json")
    assert gate.house.gateway.position.seq == 0
    return str(answer.json["detail"])


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "identity, gzip", "br", "deflate", "x"])
async def test_a_compressed_body_is_refused_and_told_what_is_read(coding: str) -> None:
    async with serving() as gate:
        answer = await gate.ask("POST", EVENTS, b"\x1f\x8b", Content_Encoding=coding)
    assert (answer.status, answer.headers["content-type"]) == (415, "application/problem+json")
    assert answer.headers["accept-encoding"] == "identity"
    assert "identity" in answer.json["detail"]


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity"])
async def test_a_body_as_it_is_may_say_so(coding: str) -> None:
    async with serving() as gate:
        assert (await gate.ask("POST", EVENTS, ONE, Content_Encoding=coding)).status == 202


@pytest.mark.parametrize("path", ["/api/v1/backends/engine/poll", "/api/v1/circuit-breaker/engine/reset"])
async def test_no_post_takes_a_compressed_body(path: str) -> None:
    async with serving() as gate:
        assert (await gate.ask("POST", path, b"\x1f\x8b", Content_Encoding="gzip")).status == 415
        assert (await gate.ask("POST", path)).status < 300


async def test_who_may_not_publish_is_told_that_first() -> None:
    async with serving(grants=GRANTS) as gate:
        assert (await gate.ask("POST", EVENTS, ONE, Content_Encoding="gzip")).status == 401


@pytest.mark.parametrize(
    "body", [[ONE] * 11, [*[ONE] * 10, {"type": 7}], [*[ONE] * 10, "text"], [{"type": "Bad", "data": 1}] * 11]
)
async def test_a_list_that_is_too_long_is_that_whatever_is_in_it(body: Any) -> None:
    async with serving(publishes=Rate(2.0, 10)) as gate:
        assert "limits.publishes_burst" in await detail(gate, body, 413)


async def test_a_long_list_is_published_in_its_order() -> None:
    events = [{"type": "app.a", "key": str(n), "data": n, "retain": True} for n in range(1001)]
    async with serving(http={"publish_bytes": 1 << 20}) as gate:
        answer = await gate.ask("POST", EVENTS, events)
        held = (await gate.ask("GET", "/api/v1/snapshot/app.a")).json["events"]
    assert (answer.status, answer.json["seq"]) == (202, 1001)
    assert [(event["seq"], event["data"]) for event in held] == [(n + 1, n) for n in range(1001)]


async def test_one_bad_event_at_the_end_of_a_long_list_spoils_all_of_it() -> None:
    body = b"[" + b'{"type":"app.a","data":1},' * 1000 + b'{"type":"app.a","data":"\\ud800"}]'
    async with serving(http={"publish_bytes": 1 << 20}) as gate:
        await detail(gate, body, 400)


async def test_others_have_their_turn_while_a_long_list_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.inbound.http_api.body.AT_ONCE", 1)
    async with serving() as gate:
        gateway, turns = gate.house.gateway, 0

        def count_turns() -> None:
            nonlocal turns
            turns += 1
            if gateway.position.seq == 0:
                asyncio.get_running_loop().call_soon(count_turns)

        monkeypatch.setattr(
            gateway.publishers, "check_count", lambda _: asyncio.get_running_loop().call_soon(count_turns)
        )
        assert (await gate.ask("POST", EVENTS, [ONE] * 50)).status == 202
    assert turns >= 50


async def test_who_publishes_too_much_is_told_when_to_come_back() -> None:
    async with serving(publishes=Rate(2.0, 10)) as gate:
        assert (await gate.ask("POST", EVENTS, [ONE] * 10)).status == 202
        answer = await gate.ask("POST", EVENTS, [ONE] * 3)
        assert (answer.status, answer.headers["retry-after"]) == (429, "2")
        assert "limits.publishes_per_s" in answer.json["detail"]
        gate.house.clock.advance(2.0)
        assert (await gate.ask("POST", EVENTS, [ONE] * 3)).status == 202


async def test_more_than_may_be_retained_is_507() -> None:
    async with serving(retained_keys=1) as gate:
        body = [{**ONE, "retain": True}, {**ONE, "key": "k", "retain": True}]
        assert "limits.retained_keys" in await detail(gate, body, 507)
        assert (await gate.ask("POST", EVENTS, json.dumps(body[:1]).encode())).status == 202
