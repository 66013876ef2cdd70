"""Sessions over HTTP: when a login is made, what is sent with calls after it, and what a refused one costs."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from scripted_http import Peer, Request, ScriptedServer, http_response, scripted

from tidegate.errors import BackendError, Disconnected, HttpStatus, LoginRefused, NoCredentials
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend, refused_login
from tidegate.outbound.backends.sessions import logging_in, session
from tidegate.outbound.backends.sessions.options import HttpSession, Login
from tidegate.ports import Call, HttpRequest
from tidegate.secret_place import SecretPlace

Respond = Callable[[Request], bytes]
OK = http_response(b'{"ok":true}')
FORM = {"username": "admin", "password": "{pw}"}
COOKIES = HttpSession(
    login=Login(call=Call("auth/login", http=HttpRequest(verb="POST")), form=FORM),
    on_status=frozenset({401, 403}),
    keeps_cookies=True,
)


@asynccontextmanager
async def server(respond: Respond) -> AsyncIterator[ScriptedServer]:
    async def script(peer: Peer) -> None:
        while True:
            answer = respond(await peer.request())
            if not answer:
                peer.reset()
                return
            await peer.send(answer)

    async with scripted(script) as running:
        yield running


@asynccontextmanager
async def backend(
    at: ScriptedServer, options: HttpSession, kind: type[Any] = HttpJsonBackend, **more: Any
) -> AsyncIterator[Any]:
    made = kind(HttpOptions(url=at.url, **more), session=options)
    yield made
    await made.aclose()


def paths(at: ScriptedServer) -> list[str]:
    return [request.line.split()[1] for request in at.requests]


class Qbit:
    """Answers as qBittorrent: a form, a cookie, 403 without it, and 200 for a wrong password."""

    def __init__(self, password: str = "right") -> None:
        self.password = password
        self.sid = 0

    def __call__(self, request: Request) -> bytes:
        if "auth/login" in request.line:
            if dict(parse_qsl(request.body.decode())) != {"username": "admin", "password": self.password}:
                return http_response(b"Fails.")
            self.sid += 1
            return http_response(b"Ok.", headers=f"Set-Cookie: SID=s{self.sid}; HttpOnly; path=/\r\n")
        good = request.headers.get("cookie") == f"SID=s{self.sid}" and self.sid
        return OK if good else http_response(b"Forbidden", status="403 Forbidden")


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> dict[str, SecretPlace]:
    monkeypatch.setenv("T_PW", "right")
    return {"pw": SecretPlace(setting="secrets.pw_env", variable="T_PW")}


async def test_a_login_comes_first_and_its_cookie_is_kept(secrets: dict[str, SecretPlace]) -> None:
    async with server(Qbit()) as at, backend(at, COOKIES, secrets=secrets) as qbit:
        for _ in range(2):
            assert await qbit.call([Call("torrents")]) == [msgspec.Raw(b'{"ok":true}')]
    assert paths(at) == ["/rpc/auth/login", "/rpc/torrents", "/rpc/torrents"]
    assert at.requests[0].headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_session_that_the_backend_forgot_is_renewed_within_the_call(secrets: dict[str, SecretPlace]) -> None:
    service = Qbit()
    async with server(service) as at, backend(at, COOKIES, secrets=secrets) as qbit:
        await qbit.call([Call("torrents")])
        service.sid += 10  # as after a restart
        assert await qbit.call([Call("torrents")])
    assert paths(at)[-3:] == ["/rpc/torrents", "/rpc/auth/login", "/rpc/torrents"]


async def test_many_calls_log_in_once(secrets: dict[str, SecretPlace]) -> None:
    service = Qbit()
    async with server(service) as at, backend(at, COOKIES, secrets=secrets) as qbit:
        await asyncio.gather(*(qbit.call([Call(f"t{n}")]) for n in range(10)))
        service.sid += 10
        await asyncio.gather(*(qbit.call([Call(f"t{n}")]) for n in range(10)))
    assert paths(at).count("/rpc/auth/login") == 2


async def test_a_wrong_password_is_tried_once_and_rests_longer_each_time(
    secrets: dict[str, SecretPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(session, "_now", lambda: now)
    monkeypatch.setattr(refused_login, "_now", lambda: now)
    service = Qbit("other")
    async with server(service) as at, backend(at, COOKIES, secrets=secrets) as qbit:
        ended = await asyncio.gather(*(qbit.call([Call(f"t{n}")]) for n in range(5)), return_exceptions=True)
        assert {type(each) for each in ended} <= {LoginRefused, NoCredentials}
        assert "expected a cookie with the answer to the login, got none, but 'Fails.'" in str(ended[0])
        assert len(at.requests) == 1
        for rest_s in (60, 120, 240, 480, 900, 900):
            now += rest_s - 0.1
            with pytest.raises(NoCredentials, match="another secret is tried at once") as caught:
                await qbit.prepare()
            assert caught.value.code == "RPC_AUTH"
            now += 0.2
            with pytest.raises(LoginRefused):
                await qbit.call([Call("t")])
        assert len(at.requests) == 7
        monkeypatch.setenv("T_PW", "other")
        assert await qbit.call([Call("t")])


async def test_a_cancelled_login_is_taken_over_by_the_next(secrets: dict[str, SecretPlace]) -> None:
    service, held = Qbit(), asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if peer.number == 0:
                await held.wait()
            await peer.send(service(request))

    async with scripted(script) as at, backend(at, COOKIES, secrets=secrets) as qbit:
        first = asyncio.ensure_future(qbit.call([Call("a")]))
        while not at.requests:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(qbit.call([Call("b")]))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == [msgspec.Raw(b'{"ok":true}')]
        held.set()
    assert paths(at) == ["/rpc/auth/login", "/rpc/auth/login", "/rpc/b"]


async def test_a_call_that_stays_refused_does_not_log_in_at_each_poll(
    secrets: dict[str, SecretPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(session, "_now", lambda: now)
    monkeypatch.setattr(refused_login, "_now", lambda: now)
    service = Qbit()

    def respond(request: Request) -> bytes:
        return http_response(b"", status="403 No") if "admin" in request.line else service(request)

    async with server(respond) as at, backend(at, COOKIES, secrets=secrets) as qbit:
        for _ in range(5):
            with pytest.raises(LoginRefused, match="expected an answer after the login"):
                await qbit.call([Call("admin")])
            assert await qbit.call([Call("torrents")])
        assert paths(at).count("/rpc/auth/login") == 1
        now += 61
        with pytest.raises(LoginRefused):
            await qbit.call([Call("admin")])
        assert paths(at).count("/rpc/auth/login") == 2
        service.sid += 10  # another call is not held up by that
        assert await qbit.call([Call("torrents")])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http_response(b"", status="503 Busy"), HttpStatus),
        (b"", Disconnected),
        (http_response(b"x", status="400 No"), LoginRefused),
    ],
)
async def test_a_login_that_fails_otherwise_is_what_it_is(
    answer: bytes, error: type[BackendError], secrets: dict[str, SecretPlace]
) -> None:
    async with server(lambda _: answer) as at, backend(at, COOKIES, secrets=secrets) as qbit:
        with pytest.raises(error):
            await qbit.call([Call("t")])


CSRF = HttpSession(on_status=frozenset({409}), header="X-Transmission-Session-Id")


@pytest.mark.parametrize("kind", [HttpJsonBackend, JsonRpcBackend])
async def test_a_header_that_a_refusal_says_is_sent_from_then_on(kind: type[Any]) -> None:
    wanted = "one"

    def respond(request: Request) -> bytes:
        if request.headers.get("x-transmission-session-id") == wanted:
            number = json.loads(request.body)["id"] if request.body else 0
            return http_response(b'{"jsonrpc":"2.0","result":1,"id":%d}' % number)
        return http_response(b"<h1>", status="409 Conflict", headers=f"X-Transmission-Session-Id: {wanted}\r\n")

    async with server(respond) as at, backend(at, CSRF, kind) as torrents:
        await torrents.call([Call("m")])
        await torrents.call([Call("m")])
        assert len(at.requests) == 3
        wanted = "two"
        await torrents.call([Call("m")])
        assert len(at.requests) == 5


async def test_a_refusal_without_the_header_is_passed_on() -> None:
    async with server(lambda _: http_response(b"", status="409 Conflict")) as at, backend(at, CSRF) as torrents:
        with pytest.raises(HttpStatus, match="409"):
            await torrents.call([Call("m")])
    assert len(at.requests) == 1


async def test_a_header_that_changes_with_each_answer_is_refused_and_not_chased() -> None:
    count = 0

    def respond(_: Request) -> bytes:
        nonlocal count
        count += 1
        return http_response(b"", status="409 Conflict", headers=f"X-Transmission-Session-Id: {count}\r\n")

    async with server(respond) as at, backend(at, CSRF) as torrents:
        with pytest.raises(LoginRefused, match="409"):
            await torrents.call([Call("m")])
    assert len(at.requests) == 2


def token_service(request: Request) -> bytes:
    if "/token" in request.line:
        return http_response(b'{"access_token":"t0k/en","expires_in":100}')
    return OK


def oauth(at: ScriptedServer, **more: Any) -> HttpSession:
    form = {"grant_type": "client_credentials", "client_secret": "{pw}"}
    login = Login(url=f"{at.url}/token", call=Call("", http=HttpRequest(verb="POST")), form=form)
    return HttpSession(login=login, token="/access_token", **more)


async def test_a_token_from_another_address_is_sent_as_bearer_and_renewed_before_it_ends(
    secrets: dict[str, SecretPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(session, "_now", lambda: now)
    monkeypatch.setattr(refused_login, "_now", lambda: now)
    async with server(token_service) as idp, server(token_service) as at:
        monkeypatch.setattr(logging_in, "_now", lambda: now)
        options = oauth(idp, sends_bearer=True)
        async with backend(at, options, secrets=secrets, headers={"X-Api-Key": "{pw}"}) as api:
            await api.call([Call("a")])
            now += 89
            await api.call([Call("a")])
            assert len(idp.requests) == 1
            now += 2
            await api.call([Call("a")])
    assert len(idp.requests) == 2
    [login, _] = idp.requests
    assert dict(parse_qsl(login.body.decode())) == {"grant_type": "client_credentials", "client_secret": "right"}
    assert "x-api-key" not in login.headers
    assert {request.headers["authorization"] for request in at.requests} == {"Bearer t0k/en"}


async def test_a_token_can_be_used_like_a_secret() -> None:
    def respond(request: Request) -> bytes:
        body = json.loads(request.body)
        result = {"auth": "t0k/en"} if body["method"] == "login" else 1
        return http_response(msgspec.json.encode({"jsonrpc": "2.0", "id": body["id"], "result": result}))

    login = Login(url="/ubus?x=1", call=Call("login", msgspec.Raw(b'["u"]')), is_rpc=True)
    options = HttpSession(login=login, token="/auth")
    async with (
        server(respond) as at,
        backend(at, options, JsonRpcBackend, headers={"X-Auth": "a{token}", "X-Other": "{key}"}) as ubus,
    ):
        ubus._client.url = ubus._client.url.with_query(auth="{token}")
        await ubus.call([Call("call", msgspec.Raw(b'["{token}"]'))])
    first, second = at.requests
    assert first.line.split()[1] == "/ubus?x=1"
    assert "x-auth" not in first.headers
    assert second.line.split()[1] == "/rpc?auth=t0k%2Fen"
    assert second.headers["x-auth"] == "at0k/en"
    assert second.headers["x-other"] == "{key}"
    assert json.loads(second.body)["params"] == ["t0k/en"]


@pytest.mark.parametrize("answer", [b"false", b"null", b'{"other":1}', b'{"t":""}', b'{"t":"a\\nb"}', b'{"t":{}}'])
async def test_a_result_without_a_token_refuses_the_login(answer: bytes) -> None:
    def respond(request: Request) -> bytes:
        return http_response(b'{"id":%d,"result":%s}' % (json.loads(request.body)["id"], answer))

    options = HttpSession(login=Login(call=Call("login"), is_rpc=True), token="/t")
    async with server(respond) as at, backend(at, options, JsonRpcBackend) as rpc:
        with pytest.raises(LoginRefused):
            await rpc.call([Call("m")])
    assert len(at.requests) == 1


async def test_an_error_that_means_log_in_renews_the_session_of_a_batch() -> None:
    logins = 0

    def respond(request: Request) -> bytes:
        nonlocal logins
        body = json.loads(request.body)
        if isinstance(body, dict):
            logins += 1
            answer: Any = {"id": body["id"], "result": True, "error": None}
            cookie = f"Set-Cookie: _session_id={logins}\r\n"
            return http_response(json.dumps(answer).encode(), headers=cookie)
        good = request.headers.get("cookie") == "_session_id=2"
        error = {"message": "Not authenticated", "code": 1}
        return http_response(
            json.dumps(
                [
                    {
                        "id": each["id"],
                        "result": 1 if good and each["method"] != "x" else None,
                        "error": None if good and each["method"] != "x" else error,
                    }
                    for each in body
                ]
            ).encode()
        )

    login = Login(call=Call("auth.login", msgspec.Raw(b'["p"]')), is_rpc=True)
    options = HttpSession(login=login, on_code=(1,), keeps_cookies=True)
    async with server(respond) as at, backend(at, options, JsonRpcBackend) as deluge:
        ended = await deluge.call([Call("a"), Call("b")])  # refused right after the login
        assert [type(each) for each in ended] == [LoginRefused, LoginRefused]
        logins = 1
        ended = await deluge.call([Call("c"), Call("x")])
        assert ended[0] == msgspec.Raw(b"1")
        assert isinstance(ended[1], LoginRefused)
    assert len(at.requests) == 5


async def test_what_a_login_gave_is_scrubbed_too() -> None:
    def respond(request: Request) -> bytes:
        body = json.loads(request.body)
        if body["method"] == "login":
            return http_response(b'{"id":1,"result":"t0ken-of-login"}')
        return http_response(b'{"id":%d,"error":{"code":5,"message":"no t0ken-of-login"}}' % body["id"])

    options = HttpSession(login=Login(call=Call("login"), is_rpc=True), token="", sends_bearer=True)
    async with server(respond) as at, backend(at, options, JsonRpcBackend) as rpc:
        ask = await rpc.prepare()
        [error] = await ask([Call("m")])
        assert str(error) == "no *** (5)"
        assert ask.scrubbed("key t0ken-of-login missing") == "key *** missing"
