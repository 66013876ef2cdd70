"""Backends that speak JSON-RPC over HTTP POST: single calls and batches, with answers matched to calls by id.

Follows https://www.jsonrpc.org/specification. It also accepts what servers of version 1.0 and careless ones send, as
far as the meaning is clear.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from tidegate.core.payload import HalfSurrogatePair, decode
from tidegate.errors import ApplicationError, BackendError, HttpStatus, InvalidResponse
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.http_backend import HttpBackend
from tidegate.outbound.backends.prepared_call import Answers
from tidegate.outbound.backends.reading import read_leniently
from tidegate.outbound.backends.rpc_messages import (
    BATCH,
    NOTHING,
    SINGLE,
    RpcRequest,
    RpcResponse,
    Version,
    outcome,
    request,
)
from tidegate.outbound.backends.sessions.options import HttpSession
from tidegate.outbound.http_client import Attempt, Connect, HttpAnswer, HttpOptions, connected
from tidegate.ports import Call

_T = TypeVar("_T")


class JsonRpcBackend(HttpBackend):
    """A backend that speaks JSON-RPC 2.0 or 1.0: the `tidegate.ports.Backend` for ``protocol = "jsonrpc"``.

    Requests are of version `version`. Their ids are integers that count up from 1 and are never reused. Answers may
    deviate from the specification: without ``jsonrpc`` they are of version 1.0; a null member next to its opposite
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
        version: Version = "2.0",
        session: HttpSession | None = None,
        wall_clock: Callable[[], float] = time.time,
        connect: Connect = connected,
    ) -> None:
        super().__init__(options, session=session, version=version, wall_clock=wall_clock, connect=connect)
        self._ids = itertools.count(1)
        self._version = version

    async def _ask(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        requests = [request(call, next(self._ids), self._version) for call in calls]
        match requests:
            case []:
                return []
            case [single]:
                answer = await self._post(single, credentials, attempt)
                return await read_leniently(answer.body, lambda body: [_of_single(body, single.id, answer.refusal)])
        answer = await self._post(requests, credentials, attempt)
        ids = [each.id for each in requests]
        return await read_leniently(answer.body, lambda body: _of_batch(body, ids, answer.refusal))

    async def _post(
        self, body: RpcRequest | list[RpcRequest], credentials: Credentials, attempt: Attempt
    ) -> HttpAnswer:
        encoded = credentials.in_json(msgspec.json.encode(body))
        url = credentials.target(self._client.url)
        return await self._client.ask("POST", url, encoded, credentials=credentials.headers, attempt=attempt)


_AUTH_STATUSES = frozenset({401, 403})
_BUSY_STATUSES = frozenset({429, 503})
_TOO_MANY_REQUESTS = 429


def _of_single(
    body: bytes | bytearray, request_id: int, refusal: HttpStatus | None = None
) -> msgspec.Raw | BackendError:
    if refusal is not None:
        return _of_refused_single(body, request_id, refusal)
    response = decode(body, SINGLE)
    if not response.names_no_call and response.call_id != request_id:
        raise InvalidResponse(f"expected an answer with id {request_id}, got {response.shown_id}")
    return outcome(response)


def _of_batch(
    body: bytes | bytearray, request_ids: Sequence[int], refusal: HttpStatus | None = None
) -> list[msgspec.Raw | BackendError]:
    if refusal is not None:
        return _of_refused_batch(body, request_ids, refusal)
    responses = decode(body, BATCH)
    if isinstance(responses, RpcResponse):
        if responses.names_no_call:
            return [outcome(responses) for _ in request_ids]
        raise InvalidResponse(f"expected a list of {len(request_ids)} answers, got an object")
    answers = _by_id([response for response in responses if not response.names_no_call], request_ids)
    about_any = next((response for response in responses if response.names_no_call), None)
    return [_of_element(answers.get(request_id, about_any), request_id) for request_id in request_ids]


def _of_refused_single(body: bytes | bytearray, request_id: int, refusal: HttpStatus) -> msgspec.Raw | BackendError:
    response = _refused(body, SINGLE, refusal)
    return _with_status(_of_refused_element(response, request_id, refusal), refusal)


def _of_refused_batch(
    body: bytes | bytearray, request_ids: Sequence[int], refusal: HttpStatus
) -> list[msgspec.Raw | BackendError]:
    responses = _refused(body, BATCH, refusal)
    if isinstance(responses, RpcResponse):
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
    response: RpcResponse | None, request_id: int, refusal: HttpStatus
) -> msgspec.Raw | ApplicationError | HttpStatus:
    """Return the outcome of a `response` that came with the status `refusal`, or `refusal` if it is not a response.

    An error with another id is accepted too: this connection had no other request, and the status says error as well.
    """
    if response is None:
        return refusal
    is_ours = response.call_id == request_id
    if not is_ours and (bytes(response.jsonrpc) in NOTHING or not response.has_error):
        return refusal
    found = outcome(response)
    return refusal if isinstance(found, BackendError) and not isinstance(found, ApplicationError) else found


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


def _by_id(responses: Sequence[RpcResponse], request_ids: Sequence[int]) -> dict[int, RpcResponse]:
    answers: dict[int, RpcResponse] = {}
    for response in responses:
        name = response.call_id
        if name is None or name not in request_ids:
            asked = ", ".join(map(str, request_ids))
            raise InvalidResponse(f"expected only answers with the ids {asked}; got {response.shown_id}")
        if name in answers:
            raise InvalidResponse(f"expected one answer for each id, got {response.shown_id} again")
        answers[name] = response
    return answers


def _of_element(response: RpcResponse | None, request_id: int) -> msgspec.Raw | BackendError:
    if response is None:
        return InvalidResponse(f"expected an answer with id {request_id} in the batch, got none")
    return outcome(response)
