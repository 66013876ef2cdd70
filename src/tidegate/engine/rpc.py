"""JSON-RPC 2.0 without a transport: the bytes of a request in, the bytes of its answer out.

pjrpc dispatches each call. What a request is, which of them make a batch, and what is answered at all is decided
here, as the specification says and stricter than pjrpc: ids are strings or integers, parameters are those that the
method has.
"""

import asyncio
import json
import reprlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec
from pjrpc.server import AsyncDispatcher, MethodRegistry
from pjrpc.server.exceptions import InvalidParamsError, InvalidRequestError, ParseError, TypedError
from pjrpc.server.validators import BaseValidator, BaseValidatorFactory

Method = Callable[[], Awaitable[object]]
"""What is called: takes no parameters, returns what msgspec can encode."""

MAX_BATCH = 100
"""Calls in one batch."""


class Endpoint:
    """Named methods, ready to be called over any transport."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        registry = MethodRegistry(validator_factory=_NoParametersFactory())
        for name, method in methods.items():
            registry.add_method(method, name)
        self._dispatcher: AsyncDispatcher[None] = AsyncDispatcher(json_loader=_load, json_dumper=_dump)
        self._dispatcher.add_methods(registry)

    async def answer(self, body: bytes) -> bytes | None:
        """The answer to a request or a batch, whose calls run side by side; None if it held only notifications.

        Raises nothing for any `body`: what is wrong with it is in the answer.
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
    """What a request object must look like. Without `id` it is a notification."""

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, msgspec.Raw] | list[msgspec.Raw] = {}
    id: int | str | msgspec.UnsetType = msgspec.UNSET


class _NoParameters(BaseValidator):
    """Names the parameters that came where none were expected."""

    def validate_params(self, params: list[Any] | tuple[Any, ...] | dict[str, Any] | None) -> dict[str, Any]:
        if params:
            shown = reprlib.repr(sorted(params)) if isinstance(params, dict) else f"{len(params)} by position"
            raise InvalidParamsError(f"Invalid params: expected no parameters, got {shown}")
        return {}


class _NoParametersFactory(BaseValidatorFactory):
    def build(self, method: Callable[..., Any]) -> BaseValidator:
        return _NoParameters(method)


def _split(body: bytes) -> list[msgspec.Raw] | None:
    """The calls of a batch, or None for what is no array. Raises for what is no JSON in UTF-8, or nested too deep."""
    msgspec.json.decode(body)
    return msgspec.json.decode(body, type=list[msgspec.Raw]) if body.lstrip().startswith(b"[") else None


def _load(text: str, **_: object) -> Any:
    """As pjrpc wants its JSON read. Only nesting can fail, which had more room left on the stack in `_split`."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


def _dump(answer: object, **_: object) -> str:
    return msgspec.json.encode(answer).decode()


def _error(error: TypedError) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error.to_json()})
