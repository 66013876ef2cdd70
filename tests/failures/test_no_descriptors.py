"""A real gateway runs out of file descriptors: it says so, turns clients away, answers probes, and goes on."""

import json
import resource
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs import Program, tidegate, until

pytestmark = pytest.mark.real

LIMIT = 64

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def connected(gateway: Program) -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.settimeout(30)
    return client


def first_line(client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    return client.recv(65536).partition(b"\r\n")[0]


def probed(gateway: Program, path: str) -> bytes:
    with connected(gateway) as client:
        return first_line(client, b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())


def test_clients_are_told_probes_are_answered_and_the_log_says_the_limit(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text('[server]\nport = 0\nstate_dir = ""\nallow_no_sources = true\n')
    with tidegate("serve", "--config", str(config)) as gateway:
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        gateway.url  # noqa: B018 - waits until it listens
        with ExitStack() as clients:
            said = [first_line(clients.enter_context(connected(gateway)), UPGRADE) for _ in range(2 * LIMIT)]
            assert set(said) == {b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 503 Service Unavailable"}
            assert said[-1].endswith(b"503 Service Unavailable")
            assert probed(gateway, "/healthz").endswith(b"200 OK")
            assert probed(gateway, "/readyz").endswith(b"200 OK")
            assert probed(gateway, "/api/v1/status").endswith(b"503 Service Unavailable")
        until(lambda: probed(gateway, "/api/v1/status").endswith(b"200 OK"))
        with urllib.request.urlopen(f"{gateway.url}/metrics") as answer:
            counted = [line for line in answer.read().decode().splitlines() if "no_file_descriptor" in line]
        assert any(int(line.split()[-1]) >= said.count(b"HTTP/1.1 503 Service Unavailable") for line in counted)
        (line,) = until(lambda: [each for each in gateway.log if each["event"] == "no file descriptor left"])
        assert (line["level"], line["limit"]) == ("warning", LIMIT)
        assert "LimitNOFILE" in line["remedy"]
        (over,) = [each for each in gateway.log if each["event"] == "file descriptors are free again"]
        assert over["times"] > LIMIT
        assert len(json.dumps(gateway.log)) < 20_000, "not a line for each client"
