"""Backends over plain HTTP: a call is a GET request, and its answer is the JSON in the body."""

from collections.abc import Sequence

from yarl import URL

from tidegate.core.payload import compact
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.http_backend import HttpBackend
from tidegate.outbound.backends.prepared_call import Answers
from tidegate.outbound.backends.reading import read_leniently
from tidegate.outbound.http_client import Attempt
from tidegate.ports import Call


class HttpJsonBackend(HttpBackend):
    """A backend that answers GET with JSON: the `tidegate.ports.Backend` for ``protocol = "http"``.

    A call's method is a path below the backend's `url`, optionally with a query, which is appended to that of the
    `url`. A call's params are not sent. `call` raises `ValueError` unless it is one call: plain HTTP has no batches.
    Raises `ConfigError` for options that cannot be used.
    """

    async def _ask(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        (call,) = calls
        url = credentials.target(below(self._client.url, call.method))
        body = await self._client.fetch("GET", url, credentials=credentials.headers, attempt=attempt)
        return [await read_leniently(body, compact)]


def below(url: URL, method: str) -> URL:
    """Return the URL of `method`, a path with an optional query, below `url`."""
    path, _, query = method.partition("?")
    whole = "/".join(filter(None, (str(url.with_query(None)).rstrip("/"), path.lstrip("/"))))
    queries = "&".join(filter(None, (url.raw_query_string, query)))
    return URL(f"{whole}?{queries}" if queries else whole)
