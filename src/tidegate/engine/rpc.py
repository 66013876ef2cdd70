"""JSON-RPC 2.0 without a transport: the bytes of a request in, the bytes of its answer out.

pjrpc dispatches single calls. This module decides what is a valid request, splits batches, and decides what is
answered. It follows the specification more strictly than pjrpc: ids are strings or integers, and parameters, by name or
by position, must match the parameters of the method and their annotated types.
"""

import asyncio
import inspect
import json
import reprlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Literal, get_type_hints

import msgspec
from pjrpc.server import AsyncDispatcher, MethodRegistry
from pjrpc.server.exceptions import InvalidParamsError, InvalidRequestError, JsonRpcError, ParseError, TypedError
from pjrpc.server.validators import BaseValidator, BaseValidatorFactory

from tidegate.engine.compression.refusals import Refused

Method = Callable[..., Awaitable[object]]
"""A method: its parameters are annotated. It returns a value that msgspec can encode, or raises `Refused`."""

REFUSED = 1
"""The error code of a call whose method raised `Refused`. ``data.code`` says why."""

MAX_BATCH = 100
"""Limit on the calls in one batch, since they all run concurrently."""


class Endpoint:
    """Named methods, ready to be called over any transport."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        registry = MethodRegistry(validator_factory=_ParametersFactory())
        for name, method in methods.items():
            registry.add_method(_refusing(method), name)
        self._dispatcher: AsyncDispatcher[None] = AsyncDispatcher(json_loader=_load, json_dumper=_dump)
        self._dispatcher.add_methods(registry)

    async def answer(self, body: bytes) -> bytes | None:
        """Return the answer to a request or a batch; None if it contained only notifications.

        The calls of a batch run concurrently. An invalid `body` raises nothing: the answer contains the error.
        """
        try:
            calls = _split(body)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            return _error(ParseError(f"Parse error: {error}"))
        if calls is None:
            return await self._answer_one(body)
        if not 1 <= len(calls) <= MAX_BATCH:
            message = f"Invalid Request: expected a batch of 1 to {MAX_BATCH} calls, got {len(calls)}"
            return _error(InvalidRequestError(message))
        answers = await asyncio.gather(*map(self._answer_one, calls))
        told = [answer for answer in answers if answer is not None]
        return b"[" + b",".join(told) + b"]" if told else None

    async def _answer_one(self, call: bytes | msgspec.Raw) -> bytes | None:
        try:
            msgspec.json.decode(call, type=_Call)
        except msgspec.DecodeError as error:
            return _error(InvalidRequestError(f"Invalid Request: {error}"))
        answer = await self._dispatcher.dispatch(bytes(call).decode(), None)
        return None if answer is None else answer[0].encode()


class _Call(msgspec.Struct):
    """A request object. Without `id` it is a notification."""

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, msgspec.Raw] | list[msgspec.Raw] = {}
    id: int | str | msgspec.UnsetType = msgspec.UNSET


def parameters_of(method: Method) -> type[msgspec.Struct]:
    """Return a struct type whose fields are the parameters of `method`."""
    hints = get_type_hints(method, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(method).parameters.items():
        known = parameter.default is not inspect.Parameter.empty
        fields.append((name, hints[name], parameter.default) if known else (name, hints[name]))
    return msgspec.defstruct(f"{method.__name__}_params", fields, forbid_unknown_fields=True)


class _Parameters(BaseValidator):
    """Validates the parameters of a call, with errors that say what is wrong."""

    def __init__(self, method: Method) -> None:
        super().__init__(method)
        self._type = parameters_of(method)

    def validate_params(self, params: list[Any] | tuple[Any, ...] | dict[str, Any] | None) -> dict[str, Any]:
        names = self._type.__struct_fields__
        if unexpected := _unexpected(names, params):
            raise InvalidParamsError(
                f"Invalid params: expected {', '.join(names) or 'no parameters'}, got {unexpected}"
            )
        by_name = params if isinstance(params, dict) else dict(zip(names, params or (), strict=False))
        try:
            return msgspec.structs.asdict(msgspec.convert(by_name, self._type))
        except msgspec.ValidationError as error:
            raise InvalidParamsError(f"Invalid params: {error}") from error


def _unexpected(names: Sequence[str], params: Sequence[Any] | Mapping[str, Any] | None) -> str | None:
    """Describe the parameters in `params` that are not among `names`, shortened; None if there are none."""
    if isinstance(params, Mapping):
        unknown = sorted(params.keys() - set(names))
        return reprlib.repr(unknown) if unknown else None
    return f"{len(params)} by position" if params and len(params) > len(names) else None


class _ParametersFactory(BaseValidatorFactory):
    def build(self, method: Callable[..., Any]) -> BaseValidator:
        return _Parameters(method)


def _refusing(method: Method) -> Method:
    """Wrap `method` so that `Refused` becomes a JSON-RPC error."""

    @wraps(method)
    async def called(**params: Any) -> object:
        try:
            return await method(**params)
        except Refused as refused:
            raise JsonRpcError(REFUSED, str(refused), {"code": refused.code.value}) from refused

    return called


def _split(body: bytes) -> list[msgspec.Raw] | None:
    """Return the calls of a batch, or None if `body` is not an array.

    Raises `UnicodeDecodeError`, `msgspec.DecodeError` or `RecursionError` if it is not JSON or nested too deep.
    """
    msgspec.json.decode(body)
    return msgspec.json.decode(body, type=list[msgspec.Raw]) if body.lstrip().startswith(b"[") else None


def _load(text: str, **_: object) -> Any:
    """Decode JSON for pjrpc, which expects `json.JSONDecodeError`.

    `_split` has decoded the text before. Only deep nesting can fail now, because less of the stack is left.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


def _dump(answer: object, **_: object) -> str:
    return msgspec.json.encode(answer).decode()


def _error(error: TypedError) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error.to_json()})
