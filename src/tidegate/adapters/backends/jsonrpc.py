"""JSON-RPC 2.0 over HTTP POST: single calls and batches, each answer matched to its call by id.

https://www.jsonrpc.org/specification
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from tidegate.adapters.backends.exchange import ConnectorFactory, Exchange
from tidegate.adapters.backends.options import HttpOptions
from tidegate.core.payload import compact, decode
from tidegate.errors import ApplicationError, BackendError, InvalidResponse
from tidegate.ports import Ask, Call

MESSAGE_CHARACTERS = 500
"""How much of a backend's error message is kept."""


class JsonRpcBackend:
    """A backend that speaks JSON-RPC 2.0: the `tidegate.ports.Backend` for ``protocol = "jsonrpc"``.

    Ids are integers that count up from 1, never given twice. Beside what the specification says, a member that is
    null next to its opposite (``"error": null`` next to a result) counts as absent, as JSON-RPC 1.0 writes it.
    Raises `ConfigError` for options that cannot be used.
    """

    answers_are_compact = True

    def __init__(
        self,
        options: HttpOptions,
        *,
        wall_clock: Callable[[], float] = time.time,
        connector_factory: ConnectorFactory | None = None,
    ) -> None:
        self._exchange = Exchange(options, wall_clock=wall_clock, connector_factory=connector_factory)
        self._ids = itertools.count(1)

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`: reads the bearer token."""
        return partial(self._ask, await self._exchange.credentials())

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        """See `tidegate.ports.Backend.call`.

        An error object is an `ApplicationError` in its call's place. In a batch a call without an answer, or with
        an answer of the wrong shape, gets `InvalidResponse` in its place; answers that cannot be told apart make
        the whole exchange `InvalidResponse`.
        """
        return await (await self.prepare())(calls)

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        await self._exchange.aclose()

    async def _ask(self, credentials: Mapping[str, str], calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        requests = [_Request(id=next(self._ids), method=call.method, params=call.params) for call in calls]
        match requests:
            case []:
                return []
            case [request]:
                return [_of_single(await self._post(request, credentials), request.id)]
        return _of_batch(await self._post(requests, credentials), [request.id for request in requests])

    async def _post(self, body: "_Request | list[_Request]", credentials: Mapping[str, str]) -> bytearray:
        encoded = msgspec.json.encode(body)
        return await self._exchange.fetch("POST", self._exchange.url, encoded, credentials=credentials)


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    jsonrpc: str = "2.0"
    id: int
    method: str
    params: msgspec.Raw


class _Response(msgspec.Struct, frozen=True):
    """A response object, its members as they came; one that did not come is empty."""

    jsonrpc: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()

    @property
    def has_error(self) -> bool:
        return bytes(self.error) not in _NOTHING

    @property
    def has_result(self) -> bool:
        return bytes(self.result) not in _NOTHING or (len(self.result) > 0 and not self.has_error)

    @property
    def names_no_call(self) -> bool:
        """An error about a request whose id the backend could not read (specification, section 5)."""
        return self.has_error and bytes(self.id) in _NOTHING


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str


_NOTHING = (b"", b"null")
_SINGLE = msgspec.json.Decoder(_Response)
_BATCH: msgspec.json.Decoder[list[_Response] | _Response] = msgspec.json.Decoder(list[_Response] | _Response)
_ERROR = msgspec.json.Decoder(_Error)


def _of_single(body: bytearray, request_id: int) -> msgspec.Raw | BackendError:
    response = decode(body, _SINGLE)
    if not response.names_no_call and bytes(response.id) != _text(request_id):
        raise InvalidResponse(f"expected an answer with id {request_id}, got {_shown(response)}")
    return _outcome(response)


def _of_batch(body: bytearray, request_ids: Sequence[int]) -> list[msgspec.Raw | BackendError]:
    responses = decode(body, _BATCH)
    if isinstance(responses, _Response):
        if responses.names_no_call:
            return [_outcome(responses) for _ in request_ids]
        raise InvalidResponse(f"expected a list of {len(request_ids)} answers, got an object")
    answers = _by_id([response for response in responses if not response.names_no_call], request_ids)
    about_any = next((response for response in responses if response.names_no_call), None)
    return [_of_element(answers.get(_text(request_id), about_any), request_id) for request_id in request_ids]


def _by_id(responses: Sequence[_Response], request_ids: Sequence[int]) -> dict[bytes, _Response]:
    expected = {_text(request_id) for request_id in request_ids}
    answers: dict[bytes, _Response] = {}
    for response in responses:
        name = bytes(response.id)
        if name not in expected:
            asked = ", ".join(map(str, request_ids))
            raise InvalidResponse(f"expected only answers with the ids {asked}; got {_shown(response)}")
        if name in answers:
            raise InvalidResponse(f"expected one answer for each id, got {_shown(response)} again")
        answers[name] = response
    return answers


def _of_element(response: _Response | None, request_id: int) -> msgspec.Raw | BackendError:
    if response is None:
        return InvalidResponse(f"expected an answer with id {request_id} in the batch, got none")
    return _outcome(response)


def _outcome(response: _Response) -> msgspec.Raw | BackendError:
    if bytes(response.jsonrpc) != b'"2.0"':
        return InvalidResponse(f'expected jsonrpc to be "2.0", got {bytes(response.jsonrpc)[:32]!r}')
    if response.has_result == response.has_error:
        got = "both" if response.has_error else "neither"
        return InvalidResponse(f"expected either a result or an error, got {got}")
    try:
        return _application_error(response.error) if response.has_error else compact(response.result)
    except InvalidResponse as exc:
        return exc


def _application_error(raw: msgspec.Raw) -> ApplicationError:
    try:
        error = decode(raw, _ERROR)
    except InvalidResponse as exc:
        raise InvalidResponse(f"expected an error object with code and message: {exc}") from exc
    return ApplicationError(error.code, error.message[:MESSAGE_CHARACTERS])


def _text(request_id: int) -> bytes:
    return b"%d" % request_id


def _shown(response: _Response) -> str:
    text = bytes(response.id)
    return f"id {text[:32]!r}" if text else "no id"
