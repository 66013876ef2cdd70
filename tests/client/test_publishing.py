import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tidegate.client import publish
from tidegate.errors import AccessRefused, Unreachable

Answer = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A gateway's URL whose POST to the events is answered so."""
    application = web.Application()
    application.router.add_post("/prefix/api/v1/events", answer)
    async with TestServer(application) as server:
        yield str(server.make_url("/prefix"))


async def test_an_event_is_posted_and_its_position_returned() -> None:
    seen: list[tuple[object, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.json(), request.headers.get("Authorization")))
        return web.json_response({"epoch": "e1", "seq": 9}, status=202)

    async with answering(answer) as url:
        assert await publish("a", {"x": 1}, url=url, key="k", retain=True, ttl_s=3, token="t") == "e1:9"
        await publish("a", msgspec.Raw(b"null"), url=url)
    assert seen == [
        ({"type": "a", "data": {"x": 1}, "key": "k", "retain": True, "ttl_s": 3.0}, "Bearer t"),
        ({"type": "a", "data": None}, None),
    ]


async def test_raw_data_keeps_its_digits() -> None:
    bodies = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response({"epoch": "e1", "seq": 9}, status=202)

    async with answering(answer) as url:
        await publish("a", msgspec.Raw(b"1.10"), url=url)
    assert b'"data":1.10' in bodies[0]


async def test_a_refusal_carries_the_gateways_reason() -> None:
    async def answer(request: web.Request) -> web.Response:
        problem = {"status": 403, "title": "Forbidden", "detail": "'a' is polled"}
        return web.Response(status=403, text=json.dumps(problem), content_type="application/problem+json")

    async with answering(answer) as url:
        with pytest.raises(AccessRefused, match="'a' is polled") as refused:
            await publish("a", 1, url=url)
        assert refused.value.status == 403


async def test_an_answer_that_is_no_problem_is_named_by_its_status() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>", headers={"Retry-After": "4"})

    async with answering(answer) as url:
        with pytest.raises(AccessRefused, match="HTTP 502 Bad Gateway") as refused:
            await publish("a", 1, url=url)
        assert refused.value.retry_after_s == 4


async def test_something_else_that_says_202_is_no_gateway() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=202, text="ok")

    async with answering(answer) as url:
        with pytest.raises(Unreachable, match="something else"):
            await publish("a", 1, url=url)


async def test_where_nobody_listens_it_says_so() -> None:
    async def answer(request: web.Request) -> web.Response:
        raise AssertionError

    async with answering(answer) as url:
        pass
    with pytest.raises(Unreachable, match=r"no gateway answers at http.*: connection refused"):
        await publish("a", 1, url=url)


async def test_a_gateway_that_hangs_is_given_up() -> None:
    given_up = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await given_up.wait()
        raise web.HTTPGone

    async with answering(answer) as url:
        with pytest.raises(Unreachable, match="no answer from"):
            await publish("a", "x" * 2_000_000, url=url, timeout_s=0.05)
        given_up.set()
