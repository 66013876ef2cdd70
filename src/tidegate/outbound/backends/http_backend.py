"""What the backends that are called over HTTP share: the client, the credentials, and the end of both.

Knows nothing of what a call looks like: each protocol says that in `_ask`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from tidegate.core.templates import TOKEN, names
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.prepared_call import Answers, PreparedCall
from tidegate.outbound.backends.rpc_messages import Version
from tidegate.outbound.backends.secrets import CredentialsReader, without_credentials
from tidegate.outbound.backends.sessions.logging_in import Logins
from tidegate.outbound.backends.sessions.options import HttpSession
from tidegate.outbound.backends.sessions.session import LoginSession
from tidegate.outbound.http_client import Attempt, Connect, HttpClient, HttpOptions, address, connected, proxy_address
from tidegate.ports import Ask, Call


class HttpBackend(ABC):
    """Implements `tidegate.ports.Backend`, `Prepares`, `Knocks` and `Checked` for one protocol over HTTP.

    Raises `ConfigError` for options that cannot be used.
    """

    answers_are_compact = True

    def __init__(
        self,
        options: HttpOptions,
        *,
        session: HttpSession | None = None,
        version: Version = "2.0",
        wall_clock: Callable[[], float] = time.time,
        connect: Connect = connected,
    ) -> None:
        address(options)  # here the user names are still in both
        proxy_address(options.proxy)
        self._is_proxied = options.proxy is not None
        late, options = _apart(options, session)
        self._credentials = CredentialsReader(options)
        self._client = HttpClient(without_credentials(options), wall_clock=wall_clock, connect=connect)
        self._session = None if session is None else _opened(session, self._client, late, version, connect)

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`: reads the secrets. Raises `NoCredentials` while a refused login rests."""
        credentials = await self._credentials.read()
        if self._session is None:
            return PreparedCall(self._ask, credentials)
        self._session.check(credentials)
        return PreparedCall(partial(self._session.exchange, self._ask), credentials)

    async def call(self, calls: Sequence[Call]) -> Answers:
        """See `tidegate.ports.Backend.call`."""
        return await (await self.prepare())(calls)

    async def knock(self) -> None:
        """See `tidegate.ports.Knocks`."""
        await self._client.knock((await self._credentials.read()).headers if self._is_proxied else {})

    def keep_idle(self, idle_s: float) -> None:
        """Keep idle connections for that long from now on."""
        self._client.keep_idle(idle_s)

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        await self._client.aclose()
        if self._session is not None:
            await self._session.aclose()

    @abstractmethod
    async def _ask(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        """Make `calls` as `tidegate.ports.Backend.call` says, with `credentials`. Every answer must be compact."""


def _apart(options: HttpOptions, session: HttpSession | None) -> tuple[Mapping[str, str], HttpOptions]:
    """Return the headers that are made of the token of a login, and `options` without them."""
    token = None if session is None else session.token
    late = {name: value for name, value in options.headers.items() if token is not None and TOKEN in names(value)}
    others = {name: value for name, value in options.headers.items() if name not in late}
    if session is not None and session.sends_bearer:
        late["Authorization"] = f"Bearer {{{TOKEN}}}"
    return late, msgspec.structs.replace(options, headers=others)


def _opened(
    session: HttpSession, client: HttpClient, late: Mapping[str, str], version: Version, connect: Connect
) -> LoginSession:
    login = session.login
    logins = None if login is None else Logins(session, login, client, late=late, version=version, connect=connect)
    return LoginSession(session, client.url, logins)
