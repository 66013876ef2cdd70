"""Logs in over HTTP: makes the request, and judges the answer. Knows not when a login is needed."""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping

import msgspec
from multidict import CIMultiDict
from yarl import URL

from tidegate.core.payload import decode
from tidegate.errors import ApplicationError, BackendError, HttpStatus, InvalidResponse, LoginRefused
from tidegate.outbound.backends.addresses import below, joined
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.rpc_messages import SINGLE, Version, outcome, refuses, request
from tidegate.outbound.backends.secrets import authorization
from tidegate.outbound.backends.sessions.cookies import Cookies
from tidegate.outbound.backends.sessions.grant import LoginGrant, ends_at, header_in, texts, token_in
from tidegate.outbound.backends.sessions.options import HttpSession, Login
from tidegate.outbound.http_client import Attempt, Connect, HttpAnswer, HttpClient, HttpOptions
from tidegate.ports import HttpRequest

ANSWER_BYTES = 1_048_576
"""Longest answer to a login at another address than the backend's."""

SHOWN_CHARACTERS = 100
"""How much of an answer that is no login's is shown."""

_REFUSED = frozenset({400, 401, 403})
"""Statuses that refuse a login. OAuth2 uses 400 and 401 (RFC 6749 section 5.2)."""


class Logins:
    """Makes the logins of `session` to one backend, whose `client` is used for addresses of its own origin.

    `late` are headers that are made of the token. Raises `ConfigError` for an address that cannot be used.
    """

    def __init__(
        self,
        session: HttpSession,
        login: Login,
        client: HttpClient,
        *,
        late: Mapping[str, str],
        version: Version,
        connect: Connect,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._login, self._late, self._version = session, login, late, version
        given = URL(login.url)
        self._user = None if given.user is None else (given.user, given.password or "")
        self._url = joined(client.url, given)
        self._is_ours = self._url.origin() == client.url.origin()
        if not self._is_ours:
            # None of the backend's headers, certificates and sockets: they are not for this server.
            options = HttpOptions(str(self._url), response_bytes=ANSWER_BYTES, idle_s=0.0)
            client = HttpClient(options, connect=connect, wall_clock=wall_clock)
        self._client = client
        self._ids = itertools.count(1)

    async def log_in(self, credentials: Credentials, attempt: Attempt) -> LoginGrant:
        """Log in, and return what that gave.

        Raises `LoginRefused`, or another `BackendError` that says nothing of the account. `attempt` is told about the
        connection if it leads to the backend.
        """
        used = attempt if self._is_ours else Attempt()
        began = _now()
        path = "" if self._login.is_rpc else self._login.call.method
        url = credentials.target(below(self._url, path) if path else self._url)
        answer = await self._asked(url, credentials, used)
        cookies = Cookies()
        cookies.take(url, texts(used.fields, "set-cookie"))
        body = self._taken(answer, cookies)
        token, expires_in = (None, None) if self._session.token is None else token_in(body, self._session.token)
        if self._session.keeps_cookies and not cookies:
            raise LoginRefused(f"expected a cookie with the answer to the login, got none, but {_shown(body)}")
        return LoginGrant(
            key=credentials.key,
            token=token,
            header=None if self._session.header is None else header_in(used.fields, self._session.header),
            cookies=cookies if self._session.keeps_cookies else None,
            ends_at=ends_at(expires_in, now=began),
            late=self._late,
        )

    async def aclose(self) -> None:
        """Close the connections to another address."""
        if not self._is_ours:
            await self._client.aclose()

    async def _asked(self, url: URL, credentials: Credentials, attempt: Attempt) -> HttpAnswer:
        call, login = self._login.call, self._login
        headers = CIMultiDict(credentials.headers if self._is_ours else {})
        if self._user is not None:
            headers["Authorization"] = authorization(*map(credentials.text, self._user))
        if login.is_rpc:
            body = credentials.in_json(msgspec.json.encode(request(call, next(self._ids), self._version)))
            return await self._client.ask("POST", url, body, credentials=headers, attempt=attempt)
        http = call.http or HttpRequest()
        headers.update({name: credentials.text(value) for name, value in http.headers.items()})
        sent = http.body and credentials.in_body(http.body, headers.get("Content-Type", "application/json"))
        if login.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            sent = credentials.in_form(login.form)
        return await self._client.ask(http.verb, url, sent, credentials=headers, attempt=attempt)

    def _taken(self, answer: HttpAnswer, cookies: Cookies) -> bytes:
        """Return the body, or the result, of an answer that takes the login. Raises a `BackendError` for any other."""
        refusal = answer.refusal
        if self._login.is_rpc and (refusal is None or answer.body):
            return self._result(answer)
        if refusal is None or (300 <= refusal.status < 400 and cookies):
            return bytes(answer.body)
        if _is_refusal(refusal):
            raise LoginRefused(f"expected an answer that takes the login, got {refusal}")
        raise refusal

    def _result(self, answer: HttpAnswer) -> bytes:
        result = _outcome(answer)
        if isinstance(result, msgspec.Raw) and not refuses(result) and bytes(result) != b"null":
            return bytes(result)
        if isinstance(result, msgspec.Raw | ApplicationError) or _is_refusal(result):
            got = bytes(result).decode() if isinstance(result, msgspec.Raw) else result
            raise LoginRefused(f"expected a result that takes the login, got {got}")
        raise result


def _outcome(answer: HttpAnswer) -> msgspec.Raw | BackendError:
    try:
        return outcome(decode(answer.body, SINGLE))
    except InvalidResponse as error:
        return answer.refusal or error


def _is_refusal(error: BackendError) -> bool:
    return isinstance(error, HttpStatus) and error.status in _REFUSED


def _shown(body: bytes) -> str:
    text = " ".join(body[:SHOWN_CHARACTERS].decode(errors="replace").split())
    return f"{text!r}" if text else "an empty body"


def _now() -> float:
    return asyncio.get_running_loop().time()
