"""Backends that speak JSON-RPC over HTTP POST: single calls and batches, with answers matched to calls by id.

Follows https://www.jsonrpc.org/specification. It also accepts what servers of version 1.0 and careless ones send, as
far as the meaning is clear.
"""

import itertools
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from tidegate.core.payload import HalfSurrogatePair, compact, decode
from tidegate.errors import ApplicationError, BackendError, HttpStatus, InvalidResponse
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.http_backend import Answers, HttpBackend
from tidegate.outbound.backends.reading import read_leniently
from tidegate.outbound.http_client import Attempt, Connect, HttpAnswer, HttpOptions, connected
from tidegate.ports import Call

_T = TypeVar("_T")

MESSAGE_CHARACTERS = 500
"""How much of a backend's error message is kept: a few sentences. It is published and logged, so it is limited."""


class JsonRpcBackend(HttpBackend):
    """A backend that speaks JSON-RPC 2.0 or 1.0: the `tidegate.ports.Backend` for ``protocol = "jsonrpc"``.

    Requests are of version 2.0. Their ids are integers that count up from 1 and are never reused. Answers may deviate
    from the specification: without ``jsonrpc`` they are of version 1.0; a null member next to its opposite
    (``"error": null`` next to a result) counts as absent; the id may come back as another JSON type (``"1"``, ``1.0``);
    an error may be any JSON value.

    If the HTTP status is not a success, the body still counts as the response if it is well-formed and has our id, or
    is an error with a ``jsonrpc`` member; otherwise the status is the error. For 401 and 403, the result is always
    `HttpStatus`, with the message of the error. For 429 and 503, the error carries the ``Retry-After`` of the answer,
    and a result counts only without one; for 429 it never counts, since the backend asks not to be called.

    An error object becomes an `ApplicationError` in the place of its call. In a batch, `InvalidResponse` is in the
    place of a call that got no answer or a malformed one. `call` raises `InvalidResponse` if answers cannot be matched
    to calls. Raises `ConfigError` for options that cannot be used.
    """

    def __init__(
        self,
        options: HttpOptions,
        *,
        wall_clock: Callable[[], float] = time.time,
        connect: Connect = connected,
    ) -> None:
        super().__init__(options, wall_clock=wall_clock, connect=connect)
        self._ids = itertools.count(1)

    async def _ask(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        requests = [_Request(id=next(self._ids), method=call.method, params=call.params) for call in calls]
        match requests:
            case []:
                return []
            case [request]:
                answer = await self._post(request, credentials, attempt)
                return await read_leniently(answer.body, lambda body: [_of_single(body, request.id, answer.refusal)])
        answer = await self._post(requests, credentials, attempt)
        ids = [request.id for request in requests]
        return await read_leniently(answer.body, lambda body: _of_batch(body, ids, answer.refusal))

    async def _post(self, body: "_Request | list[_Request]", credentials: Credentials, attempt: Attempt) -> HttpAnswer:
        encoded = credentials.in_json(msgspec.json.encode(body))
        url = credentials.target(self._client.url)
        return await self._client.ask("POST", url, encoded, credentials=credentials.headers, attempt=attempt)


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    jsonrpc: str = "2.0"
    id: int
    method: str
    params: msgspec.Raw


class _Response(msgspec.Struct, frozen=True):
    """A response object with its members as raw JSON; a missing one is empty."""

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
        """Whether it is an error about a request whose id the backend could not read (specification, section 5)."""
        return self.has_error and bytes(self.id) in _NOTHING

    @property
    def call_id(self) -> int | None:
        """The id as an integer, whatever JSON type it has; None if it is not one."""
        return _integer(self.id)


class _Error(msgspec.Struct, frozen=True):
    """An error object with its members as raw JSON."""

    code: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()


_NOTHING = (b"", b"null")
_SINGLE = msgspec.json.Decoder(_Response)
_BATCH: msgspec.json.Decoder[list[_Response] | _Response] = msgspec.json.Decoder(list[_Response] | _Response)
_ERROR = msgspec.json.Decoder(_Error)
_SCALAR: msgspec.json.Decoder[int | float | str] = msgspec.json.Decoder(int | float | str)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_AUTH_STATUSES = frozenset({401, 403})
_BUSY_STATUSES = frozenset({429, 503})
_TOO_MANY_REQUESTS = 429


def _of_single(
    body: bytes | bytearray, request_id: int, refusal: HttpStatus | None = None
) -> msgspec.Raw | BackendError:
    if refusal is not None:
        return _of_refused_single(body, request_id, refusal)
    response = decode(body, _SINGLE)
    if not response.names_no_call and response.call_id != request_id:
        raise InvalidResponse(f"expected an answer with id {request_id}, got {_shown(response)}")
    return _outcome(response)


def _of_batch(
    body: bytes | bytearray, request_ids: Sequence[int], refusal: HttpStatus | None = None
) -> list[msgspec.Raw | BackendError]:
    if refusal is not None:
        return _of_refused_batch(body, request_ids, refusal)
    responses = decode(body, _BATCH)
    if isinstance(responses, _Response):
        if responses.names_no_call:
            return [_outcome(responses) for _ in request_ids]
        raise InvalidResponse(f"expected a list of {len(request_ids)} answers, got an object")
    answers = _by_id([response for response in responses if not response.names_no_call], request_ids)
    about_any = next((response for response in responses if response.names_no_call), None)
    return [_of_element(answers.get(request_id, about_any), request_id) for request_id in request_ids]


def _of_refused_single(body: bytes | bytearray, request_id: int, refusal: HttpStatus) -> msgspec.Raw | BackendError:
    response = _refused(body, _SINGLE, refusal)
    return _with_status(_of_refused_element(response, request_id, refusal), refusal)


def _of_refused_batch(
    body: bytes | bytearray, request_ids: Sequence[int], refusal: HttpStatus
) -> list[msgspec.Raw | BackendError]:
    responses = _refused(body, _BATCH, refusal)
    if isinstance(responses, _Response):
        responses = [] if responses.has_result else [responses] * len(request_ids)
        answers = dict(zip(request_ids, responses, strict=False))
    else:
        answers = {response.call_id: response for response in responses if response.call_id is not None}
    found = [_of_refused_element(answers.get(request_id), request_id, refusal) for request_id in request_ids]
    if refusal.status in _AUTH_STATUSES:
        error = next((one for one in found if isinstance(one, ApplicationError)), None)
        raise _of_auth(refusal, error)
    return [_with_status(one, refusal) for one in found]


def _refused(body: bytes | bytearray, decoder: msgspec.json.Decoder[_T], refusal: HttpStatus) -> _T:
    try:
        return decode(body, decoder)
    except HalfSurrogatePair:
        raise
    except InvalidResponse:
        raise refusal from None


def _of_refused_element(
    response: _Response | None, request_id: int, refusal: HttpStatus
) -> msgspec.Raw | ApplicationError | HttpStatus:
    """Return the outcome of a `response` that came with the status `refusal`, or `refusal` if it is not a response.

    An error with another id is accepted too: this connection had no other request, and the status says error as well.
    """
    if response is None:
        return refusal
    is_ours = response.call_id == request_id
    if not is_ours and (bytes(response.jsonrpc) in _NOTHING or not response.has_error):
        return refusal
    outcome = _outcome(response)
    return refusal if isinstance(outcome, BackendError) and not isinstance(outcome, ApplicationError) else outcome


def _with_status(outcome: msgspec.Raw | BackendError, refusal: HttpStatus) -> msgspec.Raw | BackendError:
    """Return `outcome`, adjusted by the HTTP status that it came with."""
    if outcome is refusal:
        return refusal
    if refusal.status in _AUTH_STATUSES:
        return _of_auth(refusal, outcome if isinstance(outcome, ApplicationError) else None)
    if isinstance(outcome, ApplicationError):
        outcome.status = refusal.status
        if refusal.status in _BUSY_STATUSES:
            outcome.retry_after_s = refusal.retry_after_s
    elif refusal.status == _TOO_MANY_REQUESTS or (
        refusal.status in _BUSY_STATUSES and refusal.retry_after_s is not None
    ):
        return refusal
    return outcome


def _of_auth(refusal: HttpStatus, error: ApplicationError | None) -> HttpStatus:
    return refusal if error is None else HttpStatus(refusal.status, f"{refusal}: {error}")


def _by_id(responses: Sequence[_Response], request_ids: Sequence[int]) -> dict[int, _Response]:
    answers: dict[int, _Response] = {}
    for response in responses:
        name = response.call_id
        if name is None or name not in request_ids:
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


def _outcome(response: _Response) -> msgspec.Raw | ApplicationError | InvalidResponse:
    if bytes(response.jsonrpc) not in {b'"2.0"', *_NOTHING}:
        return InvalidResponse(f'expected jsonrpc to be "2.0", got {bytes(response.jsonrpc)[:32]!r}')
    if response.has_result == response.has_error:
        got = "both" if response.has_error else "neither"
        return InvalidResponse(f"expected either a result or an error, got {got}")
    try:
        return _application_error(response.error) if response.has_error else compact(response.result)
    except InvalidResponse as exc:
        return exc


def _application_error(raw: msgspec.Raw) -> ApplicationError:
    """Make the error. Its text is the server's message, or the whole error as JSON if it has no message."""
    if not bytes(compact(raw)).startswith(b"{"):
        return ApplicationError(None, _words(raw))
    error = decode(raw, _ERROR)
    message = _words(raw if bytes(error.message) in {b'""', *_NOTHING} else error.message)
    code = _integer(error.code)
    if code is None and bytes(error.code) not in _NOTHING:
        message = f"{message} ({_words(error.code)})"
    return ApplicationError(code, message)


def _integer(raw: msgspec.Raw) -> int | None:
    """Return the integer that a JSON number or string stands for; None if it does not."""
    try:
        value = _SCALAR.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    match value:
        case int():
            return value
        case float():
            return int(value) if value.is_integer() else None
    return int(value) if _INTEGER.fullmatch(value) else None


def _words(raw: msgspec.Raw) -> str:
    """Return a JSON string as its text, and any other value as JSON. Truncates."""
    text = bytes(compact(raw))
    words = msgspec.json.decode(text, type=str) if text[:1] == b'"' else text.decode()
    return words[:MESSAGE_CHARACTERS]


def _shown(response: _Response) -> str:
    text = bytes(response.id)
    return f"id {text[:32]!r}" if text else "no id"
