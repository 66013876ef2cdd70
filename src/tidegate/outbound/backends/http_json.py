"""Backends over plain HTTP: a call is a request for a path, and its answer is what the body says."""

import time
from collections.abc import Callable, Sequence

import msgspec
from multidict import CIMultiDict

from tidegate.core.payload import compact
from tidegate.core.polling.call import Reading
from tidegate.outbound.backends import formats
from tidegate.outbound.backends.addresses import below
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.formats import Written
from tidegate.outbound.backends.http_backend import HttpBackend
from tidegate.outbound.backends.prepared_call import Answers
from tidegate.outbound.backends.reading import read_leniently
from tidegate.outbound.backends.sessions.options import HttpSession
from tidegate.outbound.http_client import Attempt, Connect, HttpAnswer, HttpOptions, connected
from tidegate.ports import AsJson, Call, HttpRequest


class HttpJsonBackend(HttpBackend):
    """A backend whose answers are the bodies of HTTP requests: the `tidegate.ports.Backend` for ``protocol = "http"``.

    A call's method is a path below the backend's `url`, optionally with a query, which is appended to that of the
    `url`. Its `http` says how it is asked for; without it, it is a GET. A call's params are not sent. `call` raises
    `ValueError` unless it is one call: plain HTTP has no batches.

    Raises `ConfigError` for options that cannot be used.
    """

    def __init__(
        self,
        options: HttpOptions,
        *,
        session: HttpSession | None = None,
        wall_clock: Callable[[], float] = time.time,
        connect: Connect = connected,
    ) -> None:
        super().__init__(options, session=session, wall_clock=wall_clock, connect=connect)
        self._response_bytes = options.response_bytes
        self._content_type = CIMultiDict(options.headers).get("Content-Type", "application/json")

    async def _ask(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        (call,) = calls
        request = call.http or HttpRequest()
        headers = CIMultiDict(credentials.headers)
        headers.update({name: credentials.text(value) for name, value in request.headers.items()})
        answer = await self._client.ask(
            request.verb,
            credentials.target(below(self._client.url, call.method)),
            request.body and credentials.in_body(request.body, headers.get("Content-Type", self._content_type)),
            credentials=headers,
            attempt=attempt,
            success_statuses=request.success_statuses,
        )
        return [await self._read(answer.of_success(), request.reading)]

    async def _read(self, answer: HttpAnswer, reading: Reading) -> msgspec.Raw:
        if isinstance(reading, AsJson):
            return await read_leniently(answer.body, compact)
        return await formats.read(Written(answer.body, answer.content_type, self._response_bytes), reading)
