"""Each answer that refuses something is counted once, under one reason, or is knowingly not counted; each has an id."""

from collections.abc import Callable

import pytest
from serving import GRANTS, request, serving

from tidegate.core.rate import Rate

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

EVENT = b'{"type":"app.a","data":1}'


def get(path: str, *, host: str = "127.0.0.1", token: str | None = "all", **fields: str) -> bytes:
    return _asked("GET", path, b"", host, token, fields)


def post(path: str, body: bytes = EVENT, *, host: str = "127.0.0.1", token: str | None = "all", **fields: str) -> bytes:
    return _asked("POST", path, body, host, token, fields)


def upgrade(path: str = "/ws", *, host: str = "127.0.0.1", token: str | None = "all", **fields: str) -> bytes:
    asked = _asked("GET", path, b"", host, token, fields)
    lines = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items() if name not in fields)
    return asked.replace(b"Connection: close\r\n", b"").replace(b"\r\n\r\n", b"\r\n" + lines.encode() + b"\r\n", 1)


def _asked(method: str, path: str, body: bytes, host: str, token: str | None, fields: dict[str, str]) -> bytes:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    if token is not None:
        named["Authorization"] = f"Bearer {token}"
    return request(method, path, body, host=host, **named)


CASES: list[tuple[Callable[[], bytes], int, tuple[str, str] | None]] = [
    (lambda: get("/api/v1/status", host="evil.example"), 421, ("http", "host")),
    (lambda: get("/api/v1/events", host="evil.example"), 421, ("sse", "host")),
    (lambda: upgrade(host="evil.example"), 421, ("websocket", "host")),
    (lambda: post("/api/v1/events", host="evil.example"), 421, ("http", "host")),
    (lambda: get("/api/v1/status", Origin="http://evil.example"), 403, ("http", "origin")),
    (lambda: upgrade(Origin="http://evil.example"), 403, ("websocket", "origin")),
    (lambda: post("/api/v1/events", Origin="http://evil.example"), 403, ("http", "origin")),
    (lambda: get("/api/v1/status", token=None), 401, ("http", "no_token")),
    (lambda: get("/api/v1/events", token="guess"), 401, ("sse", "bad_token")),
    (lambda: get("/api/v1/events?token=guess", token=None), 401, ("sse", "bad_token")),
    (lambda: upgrade("/ws?token=guess", token=None), 401, ("websocket", "bad_token")),
    (lambda: upgrade(token=None), 401, ("websocket", "no_token")),
    (lambda: post("/api/v1/events", token="guess"), 401, ("http", "bad_token")),
    (lambda: post("/api/v1/events", token="sub"), 403, ("http", "role")),
    (lambda: get("/api/v1/clients", token="sub"), 403, ("http", "role")),
    (lambda: get("/api/v1/events?types=..", token="all"), 400, ("sse", "malformed")),
    (lambda: upgrade("/ws?types=.."), 400, ("websocket", "malformed")),
    (lambda: upgrade("/ws?since=x"), 400, ("websocket", "malformed")),
    (lambda: upgrade("/other"), 404, ("websocket", "malformed")),
    (lambda: get("/ws"), 426, ("websocket", "malformed")),
    (lambda: post("/api/v1/status"), 405, ("http", "malformed")),
    (lambda: post("/api/v1/events", b"{"), 400, ("http", "malformed")),
    (lambda: post("/api/v1/events", Content_Encoding="gzip"), 415, ("http", "malformed")),
    (lambda: post("/api/v1/events", b'{"type":"heartbeat","data":1}'), 403, ("http", "pattern")),
    (lambda: post("/api/v1/events", b" " * 5000 + EVENT), 413, ("http", "too_large")),
    (lambda: post("/api/v1/events", b"[" + b",".join([EVENT] * 3) + b"]"), 429, ("http", "publishes_rate")),
    (lambda: post("/api/v1/events", b'{"type":"app.k","data":1,"retain":true}'), 507, ("http", "too_large")),
    (lambda: b"nonsense\r\n\r\n", 400, ("http", "malformed")),
    (lambda: b"GET / HTTP/1.1\r\nX: " + b"y" * 60_000 + b"\r\n\r\n", 431, ("http", "too_large")),
    (lambda: get("/nothing"), 404, None),
    (lambda: get("/api/v1/snapshot/no.such.type"), 404, None),
    (lambda: get("/healthz", host="evil.example"), 200, None),
]


@pytest.mark.parametrize(("sent", "status", "counted"), CASES)
async def test_it_is_counted_once(sent: Callable[[], bytes], status: int, counted: tuple[str, str] | None) -> None:
    async with serving(grants=GRANTS, publishes=Rate(1.0, 5), retained_keys=0) as gate:
        if status == 429:
            await gate.send(post("/api/v1/events", b"[" + b",".join([EVENT] * 4) + b"]"))
        answer = await gate.send(sent())
        refused = [(transport, reason.value) for transport, reason in gate.house.metrics.named("request_refused")]
        assert sum(gate.house.gateway.refusals.counts.values()) == len(refused)
    assert answer.status == status
    assert refused == ([] if counted is None else [counted])
    assert len(answer.headers["x-request-id"]) == 16
    if status >= 400:
        assert answer.json["request_id"] == answer.headers["x-request-id"]
