from pathlib import Path

import pytest
from msgspec import Raw
from scripted_http import Peer, answering, http_response, scripted
from yarl import URL

from tidegate.core.polling.call import Reading
from tidegate.errors import HttpStatus, InvalidResponse
from tidegate.outbound.backends.addresses import below
from tidegate.outbound.backends.http_json import HttpJsonBackend
from tidegate.outbound.http_client.options import HttpOptions
from tidegate.ports import AsCsv, AsJson, AsPrometheus, AsText, Backend, Call, HttpRequest


@pytest.mark.parametrize(
    ("url", "method", "address"),
    [
        ("http://h/api", "/status", "http://h/api/status"),
        ("http://h/api/", "status?a=1+2&b=%20", "http://h/api/status?a=1+2&b=%20"),
        ("http://h/", "/status", "http://h/status"),
        ("http://h/api", "", "http://h/api"),
        ("http://h/api", "?a=1", "http://h/api?a=1"),
        ("http://h/api?key=k", "/status?a=1", "http://h/api/status?key=k&a=1"),
        ("http://h/api", "//other/x", "http://h/api/other/x"),
        ("http://h/api", "http://other/x", "http://h/api/http://other/x"),
        ("http://h/api", "@other/x", "http://h/api/@other/x"),
        ("http://[::1]:81/api", "a b", "http://[::1]:81/api/a%20b"),
    ],
)
def test_a_method_is_a_path_below_the_address(url: str, method: str, address: str) -> None:
    assert str(below(URL(url), method)) == address


async def test_a_call_is_a_get_and_its_answer_the_body() -> None:
    async with scripted(answering(http_response(b' {"a" : 1.10} '))) as server:
        backend: Backend = HttpJsonBackend(HttpOptions(url=server.url))
        (outcome,) = await backend.call([Call("/status?x=1")])
        await backend.aclose()
    assert outcome == Raw(b'{"a":1.10}')
    (request,) = server.requests
    assert request.line == "GET /rpc/status?x=1 HTTP/1.1"
    assert request.headers["accept"] == "application/json"
    assert "content-type" not in request.headers


@pytest.mark.parametrize(
    ("http", "line", "headers", "body"),
    [
        (HttpRequest(verb="PUT"), "PUT /rpc/p HTTP/1.1", {"content-length": "0", "content-type": None}, b""),
        (HttpRequest(), "GET /rpc/p HTTP/1.1", {"content-length": None, "content-type": None}, b""),
        (HttpRequest(verb="POST", body=b""), "POST /rpc/p HTTP/1.1", {"content-length": "0"}, b""),
        (
            HttpRequest(verb="POST", body=b'{"a":1.50}'),
            "POST /rpc/p HTTP/1.1",
            {"content-type": "application/json", "x-api": "backend's", "accept": "application/json"},
            b'{"a":1.50}',
        ),
        (
            HttpRequest(
                verb="REPORT",
                body=b"<a/>",
                headers={"content-TYPE": "text/xml", "x-API": "own", "Accept": "text/*", "authorization": "Basic own"},
            ),
            "REPORT /rpc/p HTTP/1.1",
            {"content-type": "text/xml", "x-api": "own", "accept": "text/*", "authorization": "Basic own"},
            b"<a/>",
        ),
        (
            HttpRequest(
                verb="POST",
                body=b"four",
                headers={"Content-Length": "9", "Accept-Encoding": "gzip", "Transfer-Encoding": "chunked"},
            ),
            "POST /rpc/p HTTP/1.1",
            {"content-length": "4", "accept-encoding": "identity", "transfer-encoding": None},
            b"four",
        ),
    ],
)
async def test_a_call_is_made_as_its_source_says(
    http: HttpRequest, line: str, headers: dict[str, str | None], body: bytes, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("t")
    async with scripted(answering(http_response(b"1"))) as server:
        options = HttpOptions(url=server.url, headers={"X-Api": "backend's"}, bearer_token_file=tmp_path / "token")
        backend = HttpJsonBackend(options)
        assert await backend.call([Call("p", http=http)]) == [Raw(b"1")]
        await backend.aclose()
    (request,) = server.requests
    assert (request.line, request.body) == (line, body)
    assert {name: request.headers.get(name) for name in headers} == headers


@pytest.mark.parametrize(
    ("successes", "status", "is_answer"),
    [
        ([], 200, True),
        ([], 299, True),
        ([], 503, False),
        ([200, 503], 503, True),
        ([200, 503], 200, True),
        ([200, 503], 201, False),
        ([404], 200, False),
        ([302], 302, True),
    ],
)
async def test_the_source_says_which_statuses_are_an_answer(successes: list[int], status: int, is_answer: bool) -> None:
    async with scripted(answering(http_response(b'{"up":1}', status=f"{status} Said"))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        call = Call("p", http=HttpRequest(success_statuses=frozenset(successes)))
        if is_answer:
            assert await backend.call([call]) == [Raw(b'{"up":1}')]
        else:
            with pytest.raises(HttpStatus) as caught:
                await backend.call([call])
            assert caught.value.status == status
        await backend.aclose()


@pytest.mark.parametrize(
    ("reading", "headers", "body", "result"),
    [
        (AsJson(), "Content-Type: text/csv\r\n", b"[1.50]", b"[1.50]"),
        (AsPrometheus(("a",)), "", b"a 1.50\nb 2", b'[{"name":"a","labels":{},"value":1.50}]'),
        (AsCsv(";"), "Content-Type: text/csv; charset=latin-1\r\n", b"a;b\n\xe4;2", '[{"a":"ä","b":"2"}]'.encode()),
        (AsText(r"(?P<v>\d+)"), "Content-Type: text/html\r\n", b"<b>12</b>", b'{"v":12}'),
    ],
)
async def test_the_source_says_how_the_body_is_read(reading: Reading, headers: str, body: bytes, result: bytes) -> None:
    async with scripted(answering(http_response(body, headers=headers))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        assert await backend.call([Call("p", http=HttpRequest(reading=reading))]) == [Raw(result)]
        await backend.aclose()


async def test_what_is_made_of_an_answer_is_as_long_as_an_answer_may_be() -> None:
    async with scripted(answering(http_response(b"name\n" + b"1\n" * 20))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url, response_bytes=100))
        with pytest.raises(InvalidResponse, match="at most 100 bytes as JSON"):
            await backend.call([Call("p", http=HttpRequest(reading=AsCsv()))])
        await backend.aclose()


async def test_an_answer_with_a_status_of_its_own_is_as_long_as_any_other() -> None:
    body = b'"' + b"x" * 100_000 + b'"'
    async with scripted(answering(http_response(body, status="503 Said"))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        call = Call("p", http=HttpRequest(success_statuses=frozenset({503})))
        assert await backend.call([call]) == [Raw(body)]
        await backend.aclose()


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"<html>", "expected JSON, got b'<html>'"), (b"", "got nothing at all"), (b'"\xff"', "expected JSON in UTF-8")],
)
async def test_a_body_that_is_no_json_is_refused(body: bytes, message: str) -> None:
    async with scripted(answering(http_response(body))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        with pytest.raises(InvalidResponse, match=message):
            await backend.call([Call("")])
        await backend.aclose()


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'\xef\xbb\xbf{"v":1}', b'{"v":1}'),
        (b'{"v":"\\ud83d", "n":1.10}', b'{"v":"\\ufffd","n":1.10}'),
        (b'\xef\xbb\xbf ["\\ud83d\\ude00\\ude00"]', b'["\\ud83d\\ude00\\ufffd"]'),
        (b'{"\\ud83d":1,"\\ud83e":2}', b'{"\\ufffd":1,"\\ufffd":2}'),
    ],
)
async def test_a_byte_order_mark_is_skipped_and_half_a_surrogate_pair_replaced(body: bytes, result: bytes) -> None:
    async with scripted(answering(http_response(body))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        (outcome,) = await backend.call([Call("")])
        await backend.aclose()
    assert outcome == Raw(result)


async def test_what_else_is_wrong_beside_half_a_surrogate_pair_is_told() -> None:
    async with scripted(answering(http_response(b'["\\ud83d", NaN]'))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        with pytest.raises(InvalidResponse, match="NaN"):
            await backend.call([Call("")])
        await backend.aclose()


@pytest.mark.parametrize("coding", ["none", "UTF-8", "utf8", "", "identity, none"])
async def test_a_coding_that_is_none_is_none(coding: str) -> None:
    async with scripted(answering(http_response(b"1", headers=f"Content-Encoding: {coding}\r\n"))) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        assert await backend.call([Call("")]) == [Raw(b"1")]
        await backend.aclose()


async def test_the_clock_dates_retry_after() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        late = "Retry-After: Thu, 01 Jan 1970 00:02:00 GMT\r\n"
        await peer.send(http_response(b"", status="503 Busy", headers=late))

    async with scripted(script) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url), wall_clock=lambda: 100.0)
        with pytest.raises(HttpStatus) as caught:
            await backend.call([Call("")])
        await backend.aclose()
    assert caught.value.retry_after_s == 20.0


async def test_there_are_no_batches() -> None:
    backend = HttpJsonBackend(HttpOptions(url="http://127.0.0.1:1/"))
    with pytest.raises(ValueError, match="too many values"):
        await backend.call([Call("a"), Call("b")])
    await backend.aclose()
