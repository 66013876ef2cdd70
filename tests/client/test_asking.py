"""The client's one HTTP request: whatever comes back, it ends soon, in words, and with nothing left open."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import certificates
import pytest
from scripted_http import Peer, Script, answering, hanging, http_response, scripted

from tidegate.client import asking
from tidegate.client.asking import Answer, NoAnswer, ask


def closing_after(*pieces: bytes) -> Script:
    """A script that takes one request, sends `pieces` and ends the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)

    return script


async def test_a_request_says_what_it_must_and_its_answer_is_whole() -> None:
    answer = http_response(b"{}", status="202 Accepted", headers="Retry-After: 4\r\n")
    async with scripted(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer)) as server:
        url = server.url.replace("127.0.0.1", "us%20er:p%3Aw@127.0.0.1") + "?a=b"
        assert await ask("POST", url, timeout_s=5.0, body=b"1") == Answer(
            202, "Accepted", {"content-length": "2", "retry-after": "4"}, b"{}"
        )
    [request] = server.requests
    assert (request.line, request.body) == ("POST /rpc?a=b HTTP/1.1", b"1")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["authorization"] == "Basic dXMgZXI6cDp3", "us er:p:w"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"


async def test_a_token_wins_over_a_user_in_the_address() -> None:
    async with scripted(answering(http_response(b""))) as server:
        await ask("GET", server.url.replace("127.0.0.1", "user@127.0.0.1"), timeout_s=5.0, token="t")
    assert server.requests[0].headers["authorization"] == "Bearer t"


async def test_a_token_with_a_line_break_is_not_sent() -> None:
    async with scripted(hanging) as server:
        with pytest.raises(ValueError, match="printable"):
            await ask("GET", server.url, timeout_s=5.0, token="t\r\nX: y")
        assert server.peers == []


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nw\r\n", b"3\r\nhol\r\n1\r\ne\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"\r\nwhole"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"whole"),
    ],
    ids=["chunked", "until the end", "HTTP/1.0"],
)
async def test_every_way_to_end_a_body_is_understood(pieces: tuple[bytes, ...]) -> None:
    async with scripted(closing_after(*pieces)) as server:
        assert (await ask("GET", server.url, timeout_s=5.0)).body == b"whole"


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ((), "the connection ended before an HTTP answer came"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n",), "the connection ended before an HTTP answer came"),
        ((b"SSH-2.0-OpenSSH_9\r\n",), "before an HTTP answer came"),
        (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",),
            "its answer is not valid HTTP: peer closed connection",
        ),
        ((b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,), "its answer is not valid HTTP"),
    ],
    ids=["nothing", "interim", "another protocol", "half a body", "a head without end"],
)
async def test_what_is_no_answer_is_told_in_words(pieces: tuple[bytes, ...], words: str) -> None:
    async with scripted(closing_after(*pieces)) as server:
        with pytest.raises(NoAnswer, match=words):
            await ask("GET", server.url, timeout_s=5.0)


async def test_an_answer_without_end_is_read_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ANSWER_BYTES", 100_000)

    async def without_end(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * 10_000)

    async with scripted(without_end) as server:
        with pytest.raises(NoAnswer, match="at most 100000 bytes"):
            await ask("GET", server.url, timeout_s=20.0)


async def test_giving_up_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def noticing(peer: Peer) -> None:
        await hanging(peer)
        closed.set()

    async with scripted(noticing) as server:
        with pytest.raises(TimeoutError):
            await ask("GET", server.url, timeout_s=0.05)
        await asyncio.wait_for(closed.wait(), 20)


async def test_tls_is_checked_unless_told_otherwise(tmp_path: Path) -> None:
    authority = certificates.written_to(tmp_path)
    async with scripted(answering(http_response(b"in")), tls=authority.server_side()) as server:
        assert (await ask("GET", server.url, timeout_s=5.0, check_certificate=False)).body == b"in"
        with pytest.raises(NoAnswer, match="the server's certificate was refused"):
            await ask("GET", server.url, timeout_s=5.0)


@pytest.mark.parametrize("url", ["ftp://host/", "nonsense", "http://", "http://host:port/"])
async def test_an_address_that_cannot_be_asked(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        await ask("GET", url, timeout_s=5.0)


async def test_a_name_that_can_be_none() -> None:
    with pytest.raises(UnicodeError):
        await ask("GET", f"http://{'a' * 64}.invalid/", timeout_s=5.0)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h/", "h"),
        ("http://h:80/", "h"),
        ("https://h:80/", "h:80"),
        ("http://[::1]:1/", "[::1]:1"),
        ("http://[fe80::1%25eth0]/", "[fe80::1]"),
        ("http://bücher.example/", "xn--bcher-kva.example"),
    ],
)
def test_the_host_is_named_as_servers_want_it(url: str, host: str) -> None:
    parts = urlsplit(url)
    assert f"Host: {host}\r\n".encode() in asking._request("GET", parts, token=None, body=None)
