"""Backends behind a real proxy that nobody here wrote: tinyproxy."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from certificates import written_to
from scripted_http import answering, http_response, scripted

from tidegate.errors import BackendError, Disconnected, ErrorCode, HttpStatus
from tidegate.outbound.http_client import Attempt, HttpClient, HttpOptions

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("tinyproxy") is None, reason="tinyproxy is not installed"),
]

GOOD = http_response(b"{}")


@asynccontextmanager
async def tinyproxy(folder: Path, port: int) -> AsyncIterator[None]:
    """Run it on `port`. It wants the user u with the password pass1; at the end it is killed."""
    file = folder / "tinyproxy.conf"
    file.write_text(f'Port {port}\nListen 127.0.0.1\nTimeout 20\nBasicAuth u pass1\nLogFile "{folder}/log"\n')
    process = await asyncio.create_subprocess_exec(
        "tinyproxy", "-d", "-c", str(file), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while not await listens(port):
                assert process.returncode is None, "it has ended: see its log"
                await asyncio.sleep(0.02)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def outcome(client: HttpClient) -> bytes | BackendError:
    try:
        return bytes(await client.fetch("GET", client.url, credentials={}, attempt=Attempt()))
    except BackendError as error:
        return error


@pytest.mark.parametrize("over_tls", [False, True])
async def test_it_lets_us_through_with_the_password_alone_and_is_found_again(tmp_path: Path, over_tls: bool) -> None:
    certificates, port = written_to(tmp_path), free_port()
    tls = certificates.server_side() if over_tls else None
    async with scripted(answering(GOOD), tls=tls) as server:
        clients = {
            password: HttpClient(
                HttpOptions(server.url, proxy=f"http://u:{password}@127.0.0.1:{port}", ca_file=certificates.ca)
            )
            for password in ("pass1", "wrong")
        }
        good, wrong = clients.values()
        async with tinyproxy(tmp_path, port):
            assert await outcome(good) == b"{}"
            refused = await outcome(wrong)
            assert isinstance(refused, HttpStatus)
            assert refused.code is ErrorCode.RPC_AUTH
        gone = await outcome(good)
        assert isinstance(gone, Disconnected)
        assert "the proxy cannot be reached: Connection refused" in str(gone)
        async with tinyproxy(tmp_path, port):
            await good.knock({})
            assert await outcome(good) == b"{}"
        assert all("proxy-authorization" not in request.headers for request in server.requests)
        for client in clients.values():
            await client.aclose()


async def test_a_backend_that_is_not_there_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    client = HttpClient(HttpOptions(f"https://127.0.0.1:{free_port()}/", proxy=f"http://u:pass1@127.0.0.1:{port}"))
    async with tinyproxy(tmp_path, port):
        attempt = Attempt()
        with pytest.raises(Disconnected, match="the proxy does not connect to it, it answered 5"):
            await client.fetch("GET", client.url, credentials={}, attempt=attempt)
        assert not attempt.connected
    await client.aclose()
