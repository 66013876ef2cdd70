from pathlib import Path

import certificates
import pytest
from scripted_http import Peer, answering, hanging, http_response, scripted

from tidegate.client import Readiness, readiness
from tidegate.errors import AccessRefused, Unreachable


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b'{"status":"ready"}', "200 OK", Readiness("ready")),
        (b'{"status":"degraded","stale":2}', "200 OK", Readiness("degraded", 2)),
        (b'{"status":"starting"}', "503 No", Readiness("starting")),
        (b'{"status":"draining"}', "503 No", Readiness("draining")),
    ],
)
async def test_what_a_gateway_says_of_itself(body: bytes, status: str, expected: Readiness) -> None:
    async with scripted(answering(http_response(body, status=status))) as server:
        assert await readiness(f"ws://127.0.0.1:{server.port}/prefix/ws") == expected
        assert server.requests[0].line == "GET /prefix/readyz HTTP/1.1"


async def test_a_refusal_says_why() -> None:
    body = b'{"title":"Misdirected","status":421,"detail":"see server.allowed_hosts"}'
    async with scripted(answering(http_response(body, status="421 No"))) as server:
        with pytest.raises(AccessRefused, match=r"see server\.allowed_hosts"):
            await readiness(server.url)


async def test_a_gateway_that_is_ready_but_not_by_this_name_says_why() -> None:
    async def by_path(peer: Peer) -> None:
        while True:
            if "/readyz" in (await peer.request()).line:
                await peer.send(http_response(b'{"status":"ready"}'))
            else:
                body = b'{"title":"Misdirected","status":421,"detail":"see server.allowed_hosts"}'
                await peer.send(http_response(body, status="421 No"))

    async with scripted(by_path) as server:
        with pytest.raises(AccessRefused, match=r"see server\.allowed_hosts") as caught:
            await readiness(f"http://127.0.0.1:{server.port}/prefix")
    assert caught.value.status == 421
    assert server.requests[-1].line == "GET /prefix/api/v1/session HTTP/1.1"


@pytest.mark.parametrize("status", ["404 No", "403 No", "500 No"])
async def test_a_gateway_without_sessions_is_as_ready_as_it_says(status: str) -> None:
    async def by_path(peer: Peer) -> None:
        while True:
            ready = "/readyz" in (await peer.request()).line
            await peer.send(http_response(b'{"status":"ready"}', status="200 OK" if ready else status))

    async with scripted(by_path) as server:
        assert await readiness(server.url) == Readiness("ready")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status":"fine"}', b"\xff"])
async def test_something_else_is_no_gateway(body: bytes) -> None:
    async with scripted(answering(http_response(body))) as server:
        with pytest.raises(Unreachable, match="something else"):
            await readiness(server.url)


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match=r"no gateway answers at http://127\.0\.0\.1:1: connection refused"):
        await readiness("http://127.0.0.1:1")


async def test_no_answer_in_time() -> None:
    async with scripted(hanging) as server:
        with pytest.raises(Unreachable, match=r"within 0\.1 s"):
            await readiness(server.url, timeout_s=0.1)


async def test_a_certificate_of_ours_need_not_be_known(tmp_path: Path) -> None:
    authority = certificates.written_to(tmp_path)
    async with scripted(answering(http_response(b'{"status":"ready"}')), tls=authority.server_side()) as https:
        assert (await readiness(https.url, check_certificate=False)).status == "ready"
        with pytest.raises(Unreachable, match="certificate"):
            await readiness(https.url)


async def test_an_address_that_is_none() -> None:
    with pytest.raises(ValueError, match="address of a gateway"):
        await readiness("nonsense://")
