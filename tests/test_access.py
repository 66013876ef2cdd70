"""Every refusal of the contract, and every attack of `docs/security.md`, tried on the whole server byte by byte."""

import asyncio
import base64
import contextlib
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import certificates
import pytest
import signing
from fanout import draft
from prometheus_client.parser import text_string_to_metric_families
from scripted_http import answering, http_response, scripted
from serving import Answer, RawClient, read_answer, request
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tidegate.app import App, running
from tidegate.config import from_document
from tidegate.core.delivery import session
from tidegate.inbound.websocket import protocol

PATIENCE_S = 20.0

TOKENS = [
    {"token": "t-all", "roles": ["subscriber", "publisher", "admin"]},
    {"token": "t-reader", "roles": ["subscriber"], "types": ["system.*"]},
    {"token": "t-writer", "roles": ["publisher"]},
]


@contextlib.asynccontextmanager
async def gateway(**tables: Any) -> AsyncIterator[App]:
    """The whole gateway of a configuration, on a free port; tokens are asked for unless `auth` says otherwise."""
    document: dict[str, Any] = {
        "server": {"port": 0, "state_dir": "", "allowed_origins": ["https://app.example"]},
        "auth": {"mode": "token", "tokens": TOKENS},
    }
    for name, table in tables.items():
        document[name] = table if name == "auth" else {**document.get(name, {}), **table}
    async with running(from_document(document, environ={})) as app:
        yield app


def port(app: App) -> int:
    return int(app.url.rpartition(":")[2])


async def ask(app: App, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """One request on a bare socket; "" leaves a header out, underscores stand for dashes."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Host": f"127.0.0.1:{port(app)}", **fields}
    client = await RawClient.open(port(app))
    try:
        client.writer.write(request(method, path, body, host=fields.pop("Host"), **fields))
        return read_answer(await client.rest())
    finally:
        await client.close()


async def upgrade(app: App, path: str = "/ws?types=", **headers: str) -> Answer:
    """The answer to a WebSocket handshake on a bare socket; its body ends where the connection does."""
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    client = await RawClient.open(port(app))
    try:
        fields = {**handshake, **{name.replace("_", "-"): value for name, value in headers.items()}}
        host = fields.pop("Host", f"127.0.0.1:{port(app)}")
        client.writer.write(request("GET", path, b"", host=host, **fields))
        head = await client.until(b"\r\n\r\n")
        return read_answer(head if b" 101 " in head.split(b"\r\n")[0] else head + await client.rest())
    finally:
        await client.close()


def assert_problem(answer: Answer, status: int, *says: str) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    for part in says:
        assert part in answer.json["detail"]


def connected(app: App, query: str = "?types=", token: str = "t-all", **how: Any) -> connect:
    """A well-behaved client."""
    url = f"{app.url.replace('http', 'ws', 1)}/ws{query}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return connect(url, additional_headers=headers, proxy=None, ping_interval=None, **how)


async def message(client: ClientConnection) -> dict[str, Any]:
    """The next message but `synced`, which clients ignore that do not know it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found: dict[str, Any] = json.loads(await client.recv())
            if found["type"] != "synced":
                return found


async def say(client: ClientConnection, **content: Any) -> dict[str, Any]:
    await client.send(json.dumps(content))
    return await message(client)


class TestRefusalsOfAHandshake:
    @pytest.mark.parametrize(
        ("path", "headers", "status", "says"),
        [
            ("/ws", {"Host": "evil.example"}, 421, ["evil.example", "server.allowed_hosts"]),
            ("/ws", {"Origin": "https://evil.example"}, 403, ["https://evil.example", "server.allowed_origins"]),
            ("/ws", {"Origin": "null"}, 403, ["server.allowed_origins"]),
            ("/ws", {"Authorization": ""}, 401, ["a token, got none"]),
            ("/ws?token=", {"Authorization": ""}, 401, ["a token, got none"]),
            ("/ws", {"Authorization": "Bearer wrong"}, 401, ["a token that is known"]),
            ("/ws?token=wrong", {"Authorization": ""}, 401, ["a token that is known"]),
            ("/ws?token=t-all", {"Authorization": "Bearer wrong"}, 401, ["a token that is known"]),
            ("/ws", {"Authorization": "Bearer t-writer"}, 403, ["role 'subscriber'"]),
            ("/ws?types=storage.update", {"Authorization": "Bearer t-reader"}, 403, ["storage.update"]),
            ("/ws?types=*", {"Authorization": "Bearer t-reader"}, 403, ["*"]),
            ("/ws?types=system.status,rpc.*", {"Authorization": "Bearer t-reader"}, 403, ["rpc.*"]),
            ("/ws?types=Bad", {"Authorization": "Bearer t-all"}, 400, ["types", "'Bad'"]),
            ("/ws?since=x", {"Authorization": "Bearer t-all"}, 400, ["since"]),
            ("/ws?since=42&lastEventId=e:1", {"Authorization": "Bearer t-all"}, 400, ["since"]),
            ("/ws?protocol=2", {"Authorization": "Bearer t-all"}, 400, ["protocol", "'2'"]),
            ("/ws?types=%ff", {"Authorization": "Bearer t-all"}, 400, ["query"]),
            ("/ws?" + "a=1&" * 65, {"Authorization": "Bearer t-all"}, 400, ["64 parameters"]),
            ("/ws?types=" + ",".join(f"t{n}" for n in range(129)), {"Authorization": "Bearer t-all"}, 400, ["128"]),
            ("/other", {"Authorization": "Bearer t-all"}, 404, ["/ws"]),
            ("/ws", {"Authorization": "Bearer t-all", "Sec-WebSocket-Version": "8"}, 426, []),
            ("/ws", {"Authorization": "Bearer t-all", "Sec-WebSocket-Key": "short"}, 400, []),
        ],
    )
    async def test_each(self, path: str, headers: dict[str, str], status: int, says: Sequence[str]) -> None:
        async with gateway() as app:
            answer = await upgrade(app, path, **headers)
            assert_problem(answer, status, *says)
            assert ("www-authenticate" in answer.headers) == (status == 401)
            assert app.gateway.clients.connections == []

    async def test_a_plain_get_is_told_to_upgrade(self) -> None:
        async with gateway() as app:
            answer = await ask(app, "GET", "/ws", Authorization="Bearer t-all")
            assert_problem(answer, 426)
            assert answer.headers["upgrade"] == "websocket"

    async def test_no_room(self) -> None:
        async with gateway(server={"port": 0, "state_dir": "", "max_clients": 1}) as app, connected(app) as client:
            await message(client)
            answer = await upgrade(app, Authorization="Bearer t-all")
            assert_problem(answer, 503, "server.max_clients")
            assert 1 <= int(answer.headers["retry-after"]) <= 5

    async def test_too_many_at_once(self) -> None:
        limits = {"connects_per_s": 0.001, "connects_burst": 1}
        async with gateway(limits=limits) as app, connected(app) as client:
            await message(client)
            answer = await upgrade(app, Authorization="Bearer t-all")
            assert_problem(answer, 503, "limits.connects_per_s")
            assert 1 <= int(answer.headers["retry-after"]) <= 5
            assert (await ask(app, "GET", "/healthz")).status == 200

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/ws?types=", {"Authorization": "Bearer t-all"}),
            ("/ws?types=", {"Authorization": "bearer t-all"}),
            ("/ws?types=&token=t-all", {"Authorization": ""}),
            ("/ws?types=&token=wrong", {"Authorization": "Bearer t-all"}),
            ("/ws?types=&token=t-all", {"Authorization": "Basic Zm9vOmJhcg=="}),
            ("/ws?types=system.status,system.disks.*,rpc_error,heartbeat", {"Authorization": "Bearer t-reader"}),
            ("/ws", {"Authorization": "Bearer t-reader"}),
            ("/ws", {"Authorization": "Bearer t-all", "Origin": "https://app.example"}),
            ("/ws/?types=", {"Authorization": "Bearer t-all"}),
            ("/ws?types=&protocol=1&lastEventId=x", {"Authorization": "Bearer t-all"}),
            ("/ws?types=&since=e:" + "9" * 19, {"Authorization": "Bearer t-all"}),
            ("/ws?types=", {"Authorization": "Bearer t-all", "Last-Event-ID": "x"}),
        ],
    )
    async def test_what_is_let_in(self, path: str, headers: dict[str, str]) -> None:
        async with gateway() as app:
            assert (await upgrade(app, path, **headers)).status == 101


def offer(token: str) -> str:
    """The subprotocol that carries `token`."""
    return f"tidegate.token.{base64.urlsafe_b64encode(token.encode()).rstrip(b'=').decode()}"


class TestTokenAsASubprotocol:
    """What a browser sends for `new WebSocket(url, ["tidegate.v1", "tidegate.token.…"])`."""

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/ws?types=", {}),
            ("/ws/?types=", {}),
            ("/ws?types=&token=wrong", {}),
            ("/ws?types=", {"Authorization": "Basic Zm9vOmJhcg=="}),
        ],
    )
    async def test_lets_in_and_is_not_echoed(self, path: str, headers: dict[str, str]) -> None:
        async with gateway() as app:
            fields = {"Sec-WebSocket-Protocol": f"{offer('t-all')}, tidegate.v1", **headers}
            answer = await upgrade(app, path, **fields)
            assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "tidegate.v1")

    async def test_a_header_wins_over_it(self) -> None:
        async with gateway() as app:
            offers = {"Sec-WebSocket-Protocol": f"tidegate.v1, {offer('t-all')}"}
            assert_problem(await upgrade(app, Authorization="Bearer wrong", **offers), 401, "a token that is known")
            for bad in (offer("wrong"), "tidegate.token.###"):
                offers = {"Sec-WebSocket-Protocol": f"tidegate.v1, {bad}"}
                assert (await upgrade(app, Authorization="Bearer t-all", **offers)).status == 101

    @pytest.mark.parametrize(
        "token",
        [
            offer("wrong"),
            offer("t-all") + "=",
            offer("t-all") + ", " + offer("t-all"),
            "tidegate.token.",
            offer("ü"),
            "tidegate.token.dC1hbG+",
            "tidegate.token.dC1hbGx",
            "tidegate.token.d",
        ],
    )
    async def test_a_bad_one_is_refused_whatever_else_was_sent(self, token: str) -> None:
        async with gateway() as app:
            answer = await upgrade(app, "/ws?token=t-all", **{"Sec-WebSocket-Protocol": f"tidegate.v1, {token}"})
            assert_problem(answer, 401)
            assert "sec-websocket-protocol" not in answer.headers
            assert "dC1h" not in answer.json["detail"]

    @pytest.mark.parametrize("offers", [offer("t-all"), f"graphql-ws, {offer('t-all')}", "graphql-ws", "TIDEGATE.V1"])
    async def test_without_our_protocol_it_is_nothing(self, offers: str) -> None:
        async with gateway() as app:
            assert_problem(await upgrade(app, **{"Sec-WebSocket-Protocol": offers}), 401, "got none")
            answer = await upgrade(app, "/ws?types=&token=t-all", **{"Sec-WebSocket-Protocol": offers})
            assert answer.status == 101
            assert "sec-websocket-protocol" not in answer.headers

    async def test_our_protocol_without_one_leaves_the_query(self) -> None:
        async with gateway() as app:
            answer = await upgrade(app, "/ws?types=&token=t-all", **{"Sec-WebSocket-Protocol": "x, tidegate.v1"})
            assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "tidegate.v1")


class TestSession:
    @pytest.mark.parametrize(
        ("auth", "authenticated"), [({"mode": "none"}, True), ({"mode": "token", "tokens": TOKENS}, False)]
    )
    async def test_says_which_kind_of_token_is_asked_for(self, auth: dict[str, Any], authenticated: bool) -> None:
        async with gateway(auth=auth) as app:
            body = (await ask(app, "GET", "/api/v1/session")).json
            assert (body["auth"], body["authenticated"]) == (auth["mode"], authenticated)

    async def test_is_answered_during_the_drain(self) -> None:
        async with gateway(server={"drain_s": 20.0}) as app, connected(app) as client:
            await message(client)
            draining = asyncio.create_task(app.drain())
            assert (await message(client))["data"]["code"] == "DRAINING"
            body = (await ask(app, "GET", "/api/v1/session", Authorization="Bearer t-all")).json
            assert (body["status"], body["authenticated"], body["retry_after_s"] >= 1) == ("draining", True, True)
            draining.cancel()


class TestRefusalsOverHttp:
    @pytest.mark.parametrize("path", ["/", "/api/v1/session", "/api/v1/status", "/openapi.json", "/metrics", "/no"])
    async def test_another_host_is_refused_on_every_route(self, path: str) -> None:
        async with gateway() as app:
            for host in ("evil.example", f"evil.example:{port(app)}", "127.0.0.1.evil.example", "127.0.0.2", ""):
                assert_problem(await ask(app, "GET", path, Host=host), 421, "server.allowed_hosts")

    @pytest.mark.parametrize(
        ("method", "path", "token", "status"),
        [
            ("GET", "/api/v1/status", "", 401),
            ("GET", "/api/v1/status", "wrong", 401),
            ("GET", "/api/v1/status", "t-writer", 403),
            ("GET", "/api/v1/snapshot", "t-writer", 403),
            ("GET", "/metrics", "t-writer", 403),
            ("GET", "/api/v1/events", "t-writer", 403),
            ("GET", "/api/v1/events?types=storage.update", "t-reader", 403),
            ("GET", "/api/v1/clients", "t-reader", 403),
            ("POST", "/api/v1/events", "t-reader", 403),
            ("POST", "/api/v1/backends/x/poll", "t-reader", 403),
            ("DELETE", "/api/v1/snapshot/a.b", "t-reader", 403),
            ("POST", "/api/v1/circuit-breaker/x/reset", "t-writer", 403),
        ],
    )
    async def test_a_token_without_the_role_or_the_pattern(
        self, method: str, path: str, token: str, status: int
    ) -> None:
        async with gateway() as app:
            assert_problem(await ask(app, method, path, Authorization=f"Bearer {token}" if token else ""), status)

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
    async def test_a_page_of_another_origin(self, method: str) -> None:
        async with gateway(auth={"mode": "none"}) as app:
            answer = await ask(app, method, "/api/v1/events?types=", b"{}", Origin="http://evil.example")
            assert_problem(answer, 403, "server.allowed_origins")
            assert "access-control-allow-origin" not in answer.headers
            assert app.gateway.position.seq == 0

    async def test_a_query_token_opens_streams_and_nothing_else(self) -> None:
        async with gateway() as app:
            assert_problem(await ask(app, "GET", "/api/v1/status?token=t-all"), 401)
            assert_problem(await ask(app, "POST", "/api/v1/events?token=t-all", b"{}"), 401)


class TestMessages:
    async def test_an_uncovered_pattern_is_forbidden_and_changes_nothing(self) -> None:
        async with gateway() as app, connected(app, token="t-reader") as client:
            await message(client)
            for types in (["storage.update"], ["*"], ["system.status", "rpc.*"], ["system"], ["circuit_breaker.other"]):
                refused = await say(client, type="subscribe", id=1, types=types)
                assert (refused["type"], refused["data"]["code"]) == ("error", "FORBIDDEN")
            reply = await say(client, type="subscribe", types=["system.*", "system.a.b", "source.freshness"])
            assert reply["data"]["types"] == ["source.freshness", "system.*", "system.a.b"]

    async def test_a_bad_token_renews_nothing_and_a_good_one_does(self) -> None:
        async with gateway() as app, connected(app, "?types=system.a,storage.b,heartbeat") as client:
            await message(client)
            refused = await say(client, type="auth", id=1, data={"token": "wrong"})
            assert refused["data"]["code"] == "UNAUTHENTICATED"
            reply = await say(client, type="auth", id=3, data={"token": "t-reader"})
            assert (reply["type"], reply["data"]["types"]) == ("authenticated", ["heartbeat", "system.a"])

    async def test_a_token_that_may_not_subscribe_ends_the_connection_with_4403(self) -> None:
        async with gateway() as app, connected(app, "?types=system.a") as client:
            await message(client)
            told = await say(client, type="auth", data={"token": "t-writer"})
            assert (told["type"], told["data"]["code"]) == ("connection_error", 4403)
            with pytest.raises(ConnectionClosed):
                await message(client)
            assert client.close_code == 4403

    async def test_what_a_token_does_not_cover_is_nowhere_to_be_seen(self) -> None:
        async with gateway() as app, connected(app, "", token="t-reader") as client:
            welcome = await message(client)
            assert welcome["data"]["subscriptions"] == [
                "circuit_breaker.*",
                "heartbeat",
                "notification",
                "rpc_error",
                "source.freshness",
            ]
            for event_type in ("storage.x", "system.x"):
                body = json.dumps({"type": event_type, "data": 1, "retain": True}).encode()
                assert (await ask(app, "POST", "/api/v1/events", body, Authorization="Bearer t-all")).status == 202
            answer = await ask(app, "GET", "/api/v1/snapshot", Authorization="Bearer t-reader")
            assert [event["type"] for event in answer.json["events"]] == ["system.x"]
            missing = await ask(app, "GET", "/api/v1/snapshot/storage.x", Authorization="Bearer t-reader")
            assert_problem(missing, 404)
            metrics = await ask(app, "GET", "/metrics", Authorization="Bearer t-reader")
            assert b"storage.x" not in metrics.body
            assert b"system.x" in metrics.body


def jwt_auth(**keys: Any) -> dict[str, Any]:
    return {"mode": "jwt", "jwt": keys}


class TestSignedTokens:
    @pytest.fixture
    def auth(self, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "secret").write_text("s" * 32)
        return jwt_auth(algorithms=["HS256"], secret_file=str(tmp_path / "secret"))

    async def test_who_signs_in_and_who_does_not(self, auth: dict[str, Any]) -> None:
        claims = {"sub": "carol", "roles": ["subscriber"], "types": ["system.*"]}
        async with gateway(auth=auth) as app:
            good = signing.signed(claims, signing.secret(), "HS256")
            assert (await upgrade(app, Authorization=f"Bearer {good}")).status == 101
            expired = signing.signed({**claims, "exp": 1}, signing.secret(), "HS256")
            assert_problem(await upgrade(app, Authorization=f"Bearer {expired}"), 401, "not expired")
            other = signing.signed(claims, signing.secret("x" * 32), "HS256")
            assert_problem(await upgrade(app, f"/ws?token={other}"), 401, "signature")
            unsigned = signing.forged({"alg": "none"}, claims)
            assert_problem(await upgrade(app, f"/ws?token={unsigned}"), 401, "signature")

    async def test_an_expired_token_ends_the_connection_unless_it_is_renewed(self, auth: dict[str, Any]) -> None:
        from tidegate.outbound.auth.jwt import LEEWAY_S

        brief = signing.signed({"exp": int(time.time()) - LEEWAY_S + 2}, signing.secret(), "HS256")
        lasting = signing.signed({"exp": int(time.time()) + 3600}, signing.secret(), "HS256")
        async with gateway(auth=auth) as app, connected(app, token=brief) as ended, connected(app, token=brief) as kept:
            await message(ended)
            await message(kept)
            assert (await say(kept, type="auth", data={"token": lasting}))["type"] == "authenticated"
            farewell = await message(ended)
            assert (farewell["type"], farewell["data"]["code"]) == ("connection_error", 4401)
            await ended.wait_closed()
            assert ended.close_code == 4401
            assert (await say(kept, type="ping"))["type"] == "pong"

    async def test_keys_from_an_issuer_that_rotates_them(self) -> None:
        published = http_response(signing.jwks(signing.rsa_key("now")))
        async with scripted(answering(published)) as issuer, gateway(auth=jwt_auth(jwks_url=issuer.url)) as app:
            token = signing.signed({}, signing.rsa_key("now"), kid="now")
            async with asyncio.timeout(PATIENCE_S):
                while (answer := await upgrade(app, f"/ws?token={token}")).status == 503:
                    assert answer.headers["retry-after"]
            assert answer.status == 101
            stranger = signing.signed({}, signing.rsa_key("then"), kid="then")
            assert_problem(await upgrade(app, f"/ws?token={stranger}"), 401)


class TestCrossSiteWebSocketHijacking:
    """A page of another site opens a socket to us with the browser of someone who may (CWE-1385)."""

    @pytest.mark.parametrize(
        "origin",
        ["https://evil.example", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "null", "file://",
         "http://127.0.0.1:{port}.evil.example", "http://evil.example#http://127.0.0.1:{port}",
         "http://127.0.0.1:{port}, http://evil.example", "https://app.example.evil.example", "http://app.example",
         "https://app.example:8443", "http://localhost:{port}"],
    )  # fmt: skip
    async def test_is_refused_before_the_upgrade(self, origin: str) -> None:
        async with gateway(auth={"mode": "none"}) as app:
            answer = await upgrade(app, Origin=origin.format(port=port(app)))
            assert_problem(answer, 403, "server.allowed_origins")

    async def test_our_own_page_and_listed_ones_come_in(self) -> None:
        async with gateway(auth={"mode": "none"}) as app:
            for origin in (app.url, "https://app.example", "HTTPS://APP.example"):
                assert (await upgrade(app, Origin=origin)).status == 101


class TestDnsRebinding:
    """A name of the attacker's resolves to 127.0.0.1: the page is of the same origin, but the host is not ours."""

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil.example",
         "evil.example@127.0.0.1:{port}", "127.0.0.1:{port}@evil.example", "127.0.0.1, evil.example", "[::2]",
         "0.0.0.0", "127.1", "2130706433", "localhost..", "127.0.0.2", "[::ffff:127.0.0.2]"],
    )  # fmt: skip
    async def test_is_refused_on_the_socket_and_on_every_route(self, host: str) -> None:
        async with gateway(auth={"mode": "none"}) as app:
            host = host.format(port=port(app))
            answer = await upgrade(app, Host=host, Origin=f"http://{host}")
            assert_problem(answer, 421, "server.allowed_hosts")
            assert_problem(await ask(app, "POST", "/api/v1/events", b"{}", Host=host, Origin=f"http://{host}"), 421)


async def counted(app: App) -> dict[tuple[str, str], float]:
    """The refusals that `/metrics` shows, by transport and reason, without those that never were."""
    text = (await ask(app, "GET", "/metrics", Authorization="Bearer t-all")).body.decode()
    return {
        (sample.labels["transport"], sample.labels["reason"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "tidegate_refusals_total" and sample.value
    }


class TestEveryRefusalIsCounted:
    async def test_of_handshakes(self, capsys: pytest.CaptureFixture[str]) -> None:
        refused: list[tuple[str, str, dict[str, str]]] = [
            ("host", "/ws", {"Host": "evil.example"}),
            ("origin", "/ws", {"Origin": "https://evil.example"}),
            ("no_token", "/ws", {}),
            ("bad_token", "/ws?token=s3cr3t", {}),
            ("bad_token", "/ws", {"Sec-WebSocket-Protocol": "tidegate.v1, tidegate.token.s3cr3t="}),
            ("role", "/ws?token=t-writer", {}),
            ("pattern", "/ws?token=t-reader&types=storage.*", {}),
            ("malformed", "/ws?token=t-all&since=42", {}),
            ("malformed", "/nowhere?token=t-all", {}),
            ("malformed", "/ws?token=t-all", {"Sec-WebSocket-Key": "x"}),
            ("malformed", "/ws?token=t-all", {"Sec-WebSocket-Version": "8"}),
        ]
        async with gateway() as app:
            for _, path, headers in refused:
                assert (await upgrade(app, path, **headers)).status >= 400
            reasons = [reason for reason, *_ in refused]
            assert await counted(app) == {("websocket", reason): reasons.count(reason) for reason in reasons}
        lines = [line for line in capsys.readouterr().out.splitlines() if "refused" in line]
        assert all("address=127.0.0.1" in line for line in lines)
        assert len(lines) == len(reasons)  # few enough for a line each, which says why
        assert {reason: sum(f"reason={reason} " in line for line in lines) for reason in reasons} == Counter(reasons)
        assert not any("s3cr3t" in line for line in lines)

    async def test_of_requests_and_event_streams(self) -> None:
        for path, transport in (("/api/v1/snapshot", "http"), ("/api/v1/events", "sse")):
            async with gateway() as app:
                await ask(app, "GET", path, Host="evil.example")
                await ask(app, "GET", path, Origin="https://evil.example")
                await ask(app, "GET", path)
                await ask(app, "GET", path, Authorization="Bearer wrong")
                await ask(app, "GET", path, Authorization="Bearer t-writer")
                reasons = ["host", "origin", "no_token", "bad_token", "role"]
                assert await counted(app) == {(transport, reason): 1 for reason in reasons}

    async def test_of_room_patterns_and_queries_of_an_event_stream(self) -> None:
        async with gateway(server={"max_clients": 1}) as app, connected(app) as client:
            await message(client)
            for path in ("?token=t-all", "?token=t-all&since=42"):
                assert (await ask(app, "GET", f"/api/v1/events{path}")).status >= 400
            assert (await upgrade(app, "/ws?token=t-all")).status == 503
            app.gateway.clients.draining = True
            assert (await upgrade(app, "/ws?token=t-all")).status == 503
            app.gateway.clients.draining = False
            assert await counted(app) == {
                ("sse", "max_clients"): 1,
                ("sse", "malformed"): 1,
                ("websocket", "max_clients"): 1,
                ("websocket", "draining"): 1,
            }

    async def test_of_publishers(self) -> None:
        async with gateway(limits={"publish_bytes": 100}) as app:
            for body in (b"{", b'{"type":"heartbeat","data":1}', b" " * 101):
                await ask(app, "POST", "/api/v1/events", body, Authorization="Bearer t-all")
            await ask(app, "POST", "/api/v1/events", b"{}", Authorization="Bearer t-reader")
            reasons = ["malformed", "pattern", "too_large", "role"]
            assert await counted(app) == {("http", reason): 1 for reason in reasons}

    async def test_of_what_is_no_request(self) -> None:
        async with gateway(limits={"handshake_s": 0.2}) as app:
            heads = {
                "malformed": b"nonsense\r\n\r\n",
                "too_large": b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
                "head_timeout": b"GET / HT",
            }
            for head in heads.values():
                client = await RawClient.open(port(app))
                client.writer.write(head)
                await until_ended(client)
            assert await counted(app) == {("http", reason): 1 for reason in heads}

    async def test_an_answer_that_is_no_refusal_is_not(self) -> None:
        async with gateway() as app:
            for path in ("/nowhere", "/api/v1/snapshot/no.such", "/api/v1/session", "/healthz"):
                await ask(app, "GET", path, Authorization="Bearer t-all")
            await ask(app, "GET", "/healthz", Host="evil.example")
            assert await counted(app) == {}


async def answer_to(address: str, app: App, path: str, **headers: str) -> int:
    """The status with which a GET, or a handshake, is answered that came by way of `address`."""
    fields = {"Host": "", "Connection": "close", "Authorization": "Bearer t-all", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    client = RawClient(*await asyncio.open_connection(address, port(app)))
    try:
        client.writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        return read_answer(await client.until(b"\r\n\r\n")).status
    finally:
        await client.close()


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


class TestOwnAddress:
    """A scraper or a kubelet goes by an address that nobody wrote into a configuration."""

    @pytest.mark.parametrize(
        ("bound", "host"),
        [
            ("0.0.0.0", "127.0.0.2"),
            ("0.0.0.0", "127.0.0.2:8080"),
            ("0.0.0.0", "127.0.0.2."),
            ("0.0.0.0", "[::ffff:127.0.0.2]:8080"),
            ("::", "127.0.0.2"),
            ("::", "[::ffff:7f00:2]"),
        ],
    )
    async def test_is_a_host_of_ours(self, bound: str, host: str) -> None:
        async with gateway(server={"host": bound}) as app:
            assert await answer_to("127.0.0.2", app, "/api/v1/status", Host=host) == 200
            assert await answer_to("127.0.0.2", app, "/ws?types=", Host=host, **HANDSHAKE) == 101
            assert await answer_to("127.0.0.3", app, "/api/v1/status", Host=host) == 421
            assert await answer_to("127.0.0.3", app, "/ws?types=", Host=host, **HANDSHAKE) == 421

    @pytest.mark.parametrize("host", ["127.0.0.3", "127.0.0.2.evil.example", "evil.example", "[::2]", "127.0.0.2@x"])
    async def test_another_address_or_a_name_is_not(self, host: str) -> None:
        async with gateway(server={"host": "0.0.0.0"}) as app:
            assert await answer_to("127.0.0.2", app, "/api/v1/status", Host=host) == 421
            assert await answer_to("127.0.0.2", app, "/ws?types=", Host=host, **HANDSHAKE) == 421
            assert await answer_to("127.0.0.2", app, "/healthz", Host=host) == 200


class TestBoundHost:
    async def test_an_ipv6_address_may_come_in_brackets(self) -> None:
        async with gateway(server={"host": "[::1]"}) as app:
            assert app.url == f"http://[::1]:{port(app)}"
            assert await answer_to("::1", app, "/api/v1/status", Host=f"[::1]:{port(app)}") == 200


class TestTheSameHost:
    SERVER = {  # noqa: RUF012
        "port": 0,
        "state_dir": "",
        "allowed_hosts": ["gw.example."],
        "allowed_origins": ["https://App.example:443"],
    }

    @pytest.mark.parametrize(
        "host", ["gw.example", "gw.example.", "GW.example:80", "gw.example.:80", "gw.example:8080"]
    )
    async def test_is_the_same_however_it_is_written(self, host: str) -> None:
        async with gateway(server=self.SERVER) as app:
            assert await answer_to("127.0.0.1", app, "/api/v1/status", Host=host) == 200
            assert await answer_to("127.0.0.1", app, "/ws/?types=", Host=host, **HANDSHAKE) == 101

    @pytest.mark.parametrize("origin", ["https://app.example", "https://app.example:443", "https://app.example."])
    async def test_so_is_an_origin(self, origin: str) -> None:
        async with gateway(server=self.SERVER) as app:
            assert await answer_to("127.0.0.1", app, "/ws?types=", Host="gw.example", Origin=origin, **HANDSHAKE) == 101
            assert await answer_to("127.0.0.1", app, "/api/v1/status", Host="gw.example", Origin=origin) == 200


async def until_ended(client: RawClient) -> bytes:
    """What the server still says until it ends the connection, in whatever way."""
    try:
        return await client.rest()
    except ConnectionError:
        return b""
    finally:
        await client.close()


class TestSlowloris:
    """Connections that are opened and never get to the point."""

    LIMITS = {"handshake_s": 0.2}  # noqa: RUF012

    @pytest.mark.parametrize(
        "head",
        [b"", b"G", b"GET /ws HTTP/1.1\r\n", b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n"],
        ids=["nothing", "a letter", "a line", "half a head"],
    )
    async def test_a_head_that_does_not_come_is_not_waited_for(self, head: bytes) -> None:
        async with gateway(limits=self.LIMITS) as app:
            clients = [await RawClient.open(port(app)) for _ in range(50)]
            for client in clients:
                client.writer.write(head)
            assert {await until_ended(client) for client in clients} == {b""}
            assert (await ask(app, "GET", "/healthz")).status == 200

    async def test_drips_do_not_put_the_end_off(self) -> None:
        async with gateway(limits=self.LIMITS) as app:
            client = await RawClient.open(port(app))
            client.writer.write(b"GET /ws HTTP/1.1\r\n")
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(PATIENCE_S):
                    while not client.reader.at_eof():
                        client.writer.write(b"X: y\r\n")
                        await client.writer.drain()
                        await asyncio.sleep(0.01)
            await client.close()

    async def test_a_tls_handshake_that_does_not_come_is_not_waited_for(self, tmp_path: Path) -> None:
        async with gateway(server=tls_server(tmp_path), limits=self.LIMITS) as app:
            for beginning in (b"", b"\x16\x03\x01"):
                client = await RawClient.open(port(app))
                client.writer.write(beginning)
                await until_ended(client)


class TestHeaderBombs:
    @pytest.mark.parametrize(
        "head",
        [
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a" * 100_000 + b": y\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + b"X: y\r\n" * 10_000
            + b"\r\n",
        ],
        ids=["a long path", "a long value", "many fields", "a long name", "a handshake of many fields"],
    )
    async def test_are_refused(self, head: bytes) -> None:
        async with gateway() as app:
            client = await RawClient.open(port(app))
            client.writer.write(head)
            answer = read_answer(await until_ended(client))
            assert answer.status == 431
            assert (await ask(app, "GET", "/healthz")).status == 200


def frames(*parts: Frame) -> bytes:
    return b"".join(part.serialize(mask=True) for part in parts)


class TestFloods:
    """One client sends frames as fast as it can; another one notices nothing."""

    @pytest.mark.parametrize(
        ("beginning", "flood"),
        [
            (b"", Frame(Opcode.PING, b"")),
            (b"", Frame(Opcode.PING, b"x" * 125)),
            (b"", Frame(Opcode.PONG, b"")),
            (frames(Frame(Opcode.TEXT, b"", fin=False)), Frame(Opcode.CONT, b"", fin=False)),
            (frames(Frame(Opcode.TEXT, b"", fin=False)), Frame(Opcode.CONT, b"x", fin=False)),
            (b"", Frame(Opcode.TEXT, b"{}")),
            (b"", Frame(Opcode.BINARY, b"")),
        ],
        ids=["pings", "large pings", "pongs", "empty fragments", "small fragments", "messages", "binary messages"],
    )
    async def test_of_small_frames(self, beginning: bytes, flood: Frame) -> None:
        async with gateway() as app, connected(app) as other, connected(app) as flooder:
            others_id = (await message(other))["data"]["client_id"]
            flooder.transport.set_write_buffer_limits(high=1 << 24)
            flooder.transport.write(beginning + frames(flood) * 50_000)
            [flooded] = [each for each in app.gateway.clients.connections if each.id != others_id]
            transport = flooded._channel._transport  # type: ignore[attr-defined]
            async with asyncio.timeout(PATIENCE_S):
                while transport.is_reading():
                    await asyncio.sleep(0)
            for _ in range(20):
                assert (await say(other, type="ping"))["type"] == "pong"
            flooder.transport.abort()

    async def test_a_message_in_fragments_is_no_longer_than_a_whole_one(self) -> None:
        async with gateway() as app, connected(app) as client:
            await message(client)
            part = frames(Frame(Opcode.CONT, b"x" * 60_000, fin=False))
            client.transport.write(frames(Frame(Opcode.TEXT, b"", fin=False)) + part * 2)
            with pytest.raises(ConnectionClosed):
                await message(client)
            assert client.close_code == 1009


async def publish(app: App, data: object, event_type: str = "a.b") -> Answer:
    body = json.dumps({"type": event_type, "data": data}).encode()
    return await ask(app, "POST", "/api/v1/events", body, Authorization="Bearer t-all")


async def closed(client: ClientConnection) -> int | None:
    """The code that the connection is closed with, after whatever else comes."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await message(client)
    return client.close_code


class TestLimits:
    """Each limit of the configuration, turned down, is what the gateway goes by, and is answered as it should be."""

    async def test_message_bytes(self) -> None:
        async with gateway(limits={"message_bytes": 1000}) as app, connected(app) as client:
            await message(client)
            request = '{"type":"ping","id":"%s"}'
            longest = request % ("x" * (1000 - len(request) + 2))
            await client.send(longest)
            assert (await message(client))["type"] == "pong"
            await client.send(longest + " ")
            assert await closed(client) == 1009

    async def test_messages_per_s_and_burst(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "PATIENCE_S", 0.05)
        limits = {"messages_per_s": 0.001, "messages_burst": 2}
        async with gateway(limits=limits) as app, connected(app) as client:
            await message(client)
            answers = [await say(client, type="ping", id=n) for n in range(3)]
            assert [answer["type"] for answer in answers] == ["pong", "pong", "error"]
            assert (answers[2]["id"], answers[2]["data"]["code"], answers[2]["data"]["retryable"]) == (
                2,
                "RATE_LIMITED",
                True,
            )
            with contextlib.suppress(ConnectionClosed):
                async with asyncio.timeout(PATIENCE_S):
                    while True:
                        await client.send('{"type":"ping"}')
                        await asyncio.sleep(0.01)
            assert await closed(client) == 4429

    async def test_patterns(self) -> None:
        async with gateway(limits={"patterns": 2}) as app, connected(app, "?types=a,b") as client:
            await message(client)
            assert (await say(client, type="subscribe", types=["c"]))["data"]["code"] == "TOO_MANY_SUBSCRIPTIONS"
            assert (await say(client, type="subscribe", types=["b", "a"]))["data"]["types"] == ["a", "b"]
            for path in ("/ws?types=a,b,c", "/api/v1/events?types=a,b,c"):
                ask_for = upgrade if path.startswith("/ws") else partial(ask, method="GET")
                assert_problem(await ask_for(app, path=path, Authorization="Bearer t-all"), 400, "at most 2 patterns")

    async def test_publish_bytes_and_event_bytes(self) -> None:
        async with gateway(limits={"publish_bytes": 2000, "event_bytes": 1000}) as app:
            assert (await publish(app, "x" * 998)).status == 202
            assert_problem(await publish(app, "x" * 999), 413, "at most 1000 bytes")
            assert_problem(await publish(app, "x" * 2000), 413, "limits.publish_bytes")
            assert app.gateway.position.seq == 1

    async def test_history(self) -> None:
        async with gateway(history={"events": 2}) as app:
            for n in range(3):
                await publish(app, n)
            epoch = app.gateway.position.epoch
            async with connected(app, f"?types=a.*&since={epoch}:1") as client:
                assert (await message(client))["data"]["resumed"] is True
                assert [(await message(client))["seq"] for _ in range(2)] == [2, 3]
            for seq, reason in ((0, "history_truncated"), (4, "epoch_changed")):
                async with connected(app, f"?types=a.*&since={epoch}:{seq}") as client:
                    welcome, gap = [await message(client) for _ in range(2)]
                    assert (welcome["data"]["resumed"], welcome["data"]["seq"]) == (False, 3)
                    assert (gap["type"], gap["data"]["reason"]) == ("gap", reason)
                    assert gap["data"]["requested"] == f"{epoch}:{seq}"

    @pytest.mark.parametrize(
        ("limits", "says"),
        [
            ({"send_buffer_soft_bytes": 16384, "send_buffer_hard_bytes": 1 << 17}, "more than 131072 bytes"),
            ({"send_buffer_soft_bytes": 16384, "slow_grace_s": 0.1}, "took no byte for 0.1 s"),
        ],
    )
    async def test_a_reader_that_stopped(
        self, limits: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with gateway(limits={**limits, "event_bytes": 4096}) as app, connected(app, "?types=a.*") as client:
            await message(client)
            client.transport.pause_reading()
            async with asyncio.timeout(PATIENCE_S):
                while app.gateway.clients.connections:
                    await app.gateway.publish([draft("a.b", "x" * 4000)])
                    await asyncio.sleep(0.001)
            client.transport.resume_reading()
            assert await closed(client) in {4408, 1006}
        assert says in capsys.readouterr().out

    async def test_what_welcome_tells(self) -> None:
        server = {"heartbeat_interval_s": 0.1, "default_types": ["a.*", "heartbeat"]}
        async with gateway(server=server) as app, connected(app, "") as client:
            data = (await message(client))["data"]
            assert (data["heartbeat_interval_s"], data["subscriptions"]) == (0.1, ["a.*", "heartbeat"])
            assert (await message(client))["type"] == "heartbeat"


def tls_server(folder: Path) -> dict[str, Any]:
    made = certificates.written_to(folder)
    return {"port": 0, "state_dir": "", "tls_cert_file": str(made.server), "tls_key_file": str(made.server)}


class TestTls:
    async def test_wss_and_https_with_the_same_origin(self, tmp_path: Path) -> None:
        server = tls_server(tmp_path)
        trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        async with gateway(server=server) as app:
            assert app.url.startswith("https://")
            async with connected(app, "?types=a.*", ssl=trusting, origin=app.url) as client:
                assert (await message(client))["type"] == "welcome"
                assert (await say(client, type="ping"))["type"] == "pong"
                await app.gateway.publish([draft("a.b", "live")])
                assert (await message(client))["data"] == "live"
            reader, writer = await asyncio.open_connection("127.0.0.1", port(app), ssl=trusting)
            writer.write(request("GET", "/healthz", host=f"127.0.0.1:{port(app)}", Origin=app.url))
            assert read_answer(await reader.read()).json == {"status": "ok"}
            writer.close()

    async def test_a_client_that_says_goodbye_is_not_kept_waiting(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "LINGER_S", 3600.0)
        server = tls_server(tmp_path)
        trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        async with gateway(server=server) as app, connected(app, ssl=trusting, close_timeout=None) as client:
            await message(client)
            async with asyncio.timeout(PATIENCE_S):
                await client.close()

    async def test_a_page_that_came_without_tls_is_another_origin(self, tmp_path: Path) -> None:
        server = tls_server(tmp_path)
        trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        async with gateway(server=server) as app:
            reader, writer = await asyncio.open_connection("127.0.0.1", port(app), ssl=trusting)
            plain = app.url.replace("https", "http", 1)
            writer.write(request("GET", "/healthz", host=f"127.0.0.1:{port(app)}", Origin=plain))
            assert read_answer(await reader.read()).status == 403
            writer.close()

    async def test_a_plain_request_gets_no_answer(self, tmp_path: Path) -> None:
        async with gateway(server=tls_server(tmp_path)) as app:
            client = await RawClient.open(port(app))
            client.writer.write(request("GET", "/healthz", host="127.0.0.1"))
            assert b"HTTP/1.1 200" not in await until_ended(client)


class TestBehindAProxy:
    PROXIED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9", "Host": "gw.example"}  # noqa: RUF012
    SERVER = {"port": 0, "state_dir": "", "allowed_hosts": ["gw.example"]}  # noqa: RUF012

    async def test_a_trusted_one_tells_scheme_and_address(self) -> None:
        server = {**self.SERVER, "trusted_proxies": ["127.0.0.0/8"]}
        async with gateway(server=server) as app:
            answer = await upgrade(app, Authorization="Bearer t-all", Origin="https://gw.example", **self.PROXIED)
            assert answer.status == 101
            forwarded = {"Authorization": "Bearer t-all", "X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
            async with connect(
                f"ws://127.0.0.1:{port(app)}/ws?types=", additional_headers=forwarded, proxy=None
            ) as client:
                await message(client)
                answer = await ask(app, "GET", "/api/v1/clients", Authorization="Bearer t-all")
                assert answer.json["clients"][-1]["address"] == "203.0.113.9"

    async def test_nobody_else_does(self) -> None:
        async with gateway(server=self.SERVER) as app:
            answer = await upgrade(app, Authorization="Bearer t-all", Origin="https://gw.example", **self.PROXIED)
            assert_problem(answer, 403, "server.allowed_origins")
