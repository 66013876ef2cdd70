"""What the backends that are called over HTTP share: the client, the credentials, and the end of both.

Knows nothing of what a call looks like: each protocol says that in `_ask`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from tidegate.errors import BackendError
from tidegate.outbound.http_client import Connect, HttpClient, HttpOptions, connected
from tidegate.ports import Ask, Call


class HttpBackend(ABC):
    """Implements `tidegate.ports.Backend`, `Prepares` and `Checked` for one protocol over HTTP.

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
        self._client = HttpClient(options, wall_clock=wall_clock, connect=connect)

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`: reads the bearer token."""
        return partial(self._ask, await self._client.credentials())

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        """See `tidegate.ports.Backend.call`."""
        return await (await self.prepare())(calls)

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        await self._client.aclose()

    @abstractmethod
    async def _ask(self, credentials: Mapping[str, str], calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        """Make `calls` with `credentials`, as `tidegate.ports.Backend.call` says. Every answer must be compact."""
