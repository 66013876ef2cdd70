"""Backends over plain HTTP: a call is a GET request, and its answer is the JSON in the body."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
from yarl import URL

from tidegate.core.payload import compact
from tidegate.errors import BackendError
from tidegate.outbound.backends.reading import read_leniently
from tidegate.outbound.http_client import Connect, HttpClient, HttpOptions, connected
from tidegate.ports import Ask, Call


class HttpJsonBackend:
    """A backend that answers GET with JSON: the `tidegate.ports.Backend` for ``protocol = "http"``.

    A call's method is a path below the backend's `url`, optionally with a query, which is appended to that of the
    `url`. A call's params are not sent. Raises `ConfigError` for options that cannot be used.
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
        """See `tidegate.ports.Backend.call`. Raises `ValueError` unless it is one call: plain HTTP has no batches."""
        return await (await self.prepare())(calls)

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        await self._client.aclose()

    async def _ask(self, credentials: Mapping[str, str], calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        (call,) = calls
        url = below(self._client.url, call.method)
        body = await self._client.fetch("GET", url, credentials=credentials)
        return [await read_leniently(body, compact)]


def below(url: URL, method: str) -> URL:
    """Return the URL of `method`, a path with an optional query, below `url`."""
    path, _, query = method.partition("?")
    whole = "/".join(filter(None, (str(url.with_query(None)).rstrip("/"), path.lstrip("/"))))
    queries = "&".join(filter(None, (url.raw_query_string, query)))
    return URL(f"{whole}?{queries}" if queries else whole)
