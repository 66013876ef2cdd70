"""Makes the links of one backend: the connection, TLS, the handshake, and then the login and what else is to be called.

Knows nothing of polls, or of what becomes of a link.
"""

import asyncio
import itertools
from collections.abc import Callable

import msgspec

from tidegate.errors import BackendError, LoginRefused
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.persistent.dialogue import Dialogue
from tidegate.outbound.backends.persistent.framing import JsonStream, RpcFraming
from tidegate.outbound.backends.persistent.link import Link, Unheard
from tidegate.outbound.backends.persistent.options import RpcOptions, as_http
from tidegate.outbound.backends.persistent.websocket import RpcWebSocket
from tidegate.outbound.backends.rpc_messages import refuses
from tidegate.outbound.backends.secrets import without_credentials
from tidegate.outbound.http_client import (
    KNOCKED_S,
    Connect,
    NewConnection,
    destination,
    fixed_headers,
    had_stood,
    is_our_lack,
)
from tidegate.ports import Call


class Dialer:
    """Connects to one backend. `notice` is called with the names of notifications.

    Raises `ConfigError` for a URL, CA file or certificate that cannot be used.
    """

    def __init__(
        self,
        options: RpcOptions,
        *,
        connect: Connect,
        wall_clock: Callable[[], float],
        notice: Callable[[str], None],
    ) -> None:
        http = as_http(options.http)
        self._options = options
        self._to = destination(http)
        self._url = self._to.url
        self.peer = self._to.peer
        self._headers = fixed_headers(without_credentials(http))
        self._connect = connect
        self._wall_clock = wall_clock
        self._notice = notice
        self._ids = itertools.count(1)
        self._knocked: tuple[NewConnection, asyncio.TimerHandle] | None = None
        self.has_stood = False  # the last connection, if only for a moment

    async def knock(self) -> None:
        """See `tidegate.ports.Knocks`. Keeps the connection for `KNOCKED_S` seconds. Raises `OSError`."""
        try:
            made = await self._connect(self._to)
        except OSError as exc:
            if had_stood(exc):
                return
            raise
        self.forget_knocked()
        self._knocked = made, asyncio.get_running_loop().call_later(KNOCKED_S, self.forget_knocked)

    def forget_knocked(self) -> None:
        """Close the connection of the last knock, if no link was made of it."""
        if self._knocked is not None:
            made, timer = self._knocked
            self._knocked = None
            timer.cancel()
            made.close()

    async def dial(self, credentials: Credentials, lost: Callable[[Link], None]) -> Link:
        """Return a new link, over which calls can be made: the login and the calls of `on_connect` were answered.

        Raises `OSError`, `Lost` or a `BackendError`, such as `LoginRefused`. After that, or a cancellation, nothing is
        left open.
        """
        made = self._take_knocked() or await self._reach()
        dialogue = Dialogue(self._ids, version=self._options.version, notice=self._notice)
        link = Link(self._framing(credentials), dialogue, peer=self.peer, key=credentials.key, lost=lost)
        try:
            await made.start(lambda: link)
            await link.open()
            await self._log_in(link, credentials)
        except BaseException:
            link.abort()
            raise
        return link

    async def _reach(self) -> NewConnection:
        self.has_stood = False
        try:
            made = await self._connect(self._to)
        except OSError as exc:
            self.has_stood = is_our_lack(exc) or had_stood(exc)
            raise
        self.has_stood = True
        return made

    def _take_knocked(self) -> NewConnection | None:
        if self._knocked is None:
            return None
        made, timer = self._knocked
        self._knocked = None
        timer.cancel()
        if made.is_open:
            self.has_stood = True
            return made
        made.close()
        return None

    def _framing(self, credentials: Credentials) -> RpcFraming:
        limit = self._options.http.response_bytes
        if self._options.framed == "stream":
            return JsonStream(limit_bytes=limit)
        headers = self._headers.copy()
        headers.update(credentials.headers)
        return RpcWebSocket(
            credentials.target(self._url), headers, limit_bytes=limit, peer=self.peer, wall=self._wall_clock()
        )

    async def _log_in(self, link: Link, credentials: Credentials) -> None:
        session = self._options.session
        if session.login is not None:
            answer = await _asked(link, session.login, credentials)
            if refuses(answer):
                said = "false" if isinstance(answer, msgspec.Raw) else str(answer)
                raise LoginRefused(f"{self.peer}: expected the login to be accepted, got {said}")
            _check(answer)
        for call in session.on_connect:
            _check(await _asked(link, call, credentials))


def filled(call: Call, credentials: Credentials) -> Call:
    """Return `call` with the secrets in it."""
    params = msgspec.Raw(credentials.in_json(bytes(call.params)))
    return msgspec.structs.replace(call, method=credentials.text(call.method), params=params)


async def _asked(link: Link, call: Call, credentials: Credentials) -> msgspec.Raw | BackendError:
    try:
        [answer] = await link.ask([filled(call, credentials)])
    except Unheard as unheard:
        raise unheard.end from unheard.end.__cause__
    return answer


def _check(answer: msgspec.Raw | BackendError) -> None:
    if isinstance(answer, BackendError):
        raise answer
