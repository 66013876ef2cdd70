"""What the backends that are called over HTTP share: the client, the credentials, and the end of both.

Knows nothing of what a call looks like: each protocol says that in `_ask`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.prepared_call import Answers, PreparedCall
from tidegate.outbound.backends.secrets import CredentialsReader, without_credentials
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
        wall_clock: Callable[[], float] = time.time,
        connect: Connect = connected,
    ) -> None:
        address(options)  # here the user names are still in both
        proxy_address(options.proxy)
        self._is_proxied = options.proxy is not None
        self._credentials = CredentialsReader(options)
        self._client = HttpClient(without_credentials(options), wall_clock=wall_clock, connect=connect)

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`: reads the secrets."""
        return PreparedCall(self._ask, await self._credentials.read())

    async def call(self, calls: Sequence[Call]) -> Answers:
        """See `tidegate.ports.Backend.call`."""
        return await (await self.prepare())(calls)

    async def knock(self) -> None:
        """See `tidegate.ports.Knocks`."""
        await self._client.knock((await self._credentials.read()).headers if self._is_proxied else {})

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        await self._client.aclose()

    @abstractmethod
    async def _ask(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        """Make `calls` as `tidegate.ports.Backend.call` says, with `credentials`. Every answer must be compact."""
