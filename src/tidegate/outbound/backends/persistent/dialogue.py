"""The calls under way on one connection, and what each message of the server is to them.

Sans-I/O: messages go in, replies come out, and the futures of calls get their responses. Ids match responses to calls.
"""

import asyncio
from collections.abc import Callable, Iterator

import msgspec

from tidegate.core.payload import HalfSurrogatePair, decode, without_bom
from tidegate.errors import InvalidResponse
from tidegate.outbound.backends.rpc_messages import NOTHING, RpcResponse, Version, request
from tidegate.ports import Call

NAME_CHARACTERS = 200
"""Longest name of a notification that is passed on. Nobody configures a longer one."""

_NO_SUCH_METHOD = -32601

Ended = RpcResponse | Exception
"""How a call ended: with its response, or with what became of the connection."""


class RpcMessage(RpcResponse, frozen=True):
    """Any message, with its members as raw JSON. Only requests and notifications have a `method`."""

    method: msgspec.Raw = msgspec.Raw()
    params: msgspec.Raw = msgspec.Raw()


class _Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    jsonrpc: str | None = None
    id: msgspec.Raw
    result: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
    error: object | msgspec.UnsetType = msgspec.UNSET


_MESSAGES: msgspec.json.Decoder[list[RpcMessage] | RpcMessage] = msgspec.json.Decoder(list[RpcMessage] | RpcMessage)
_NAME = msgspec.json.Decoder(str)
_PARAMS: msgspec.json.Decoder[dict[str, msgspec.Raw] | list[msgspec.Raw]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw] | list[msgspec.Raw]
)


class Dialogue:
    """The two sides of one connection. `notice` is called with each name of each notification.

    `ids` are integers that grow and are never used again, also not on another connection.
    """

    def __init__(self, ids: Iterator[int], *, version: Version, notice: Callable[[str], None]) -> None:
        self._ids = ids
        self._version = version
        self._notice = notice
        self._waiting: dict[int, asyncio.Future[Ended]] = {}
        self._used = range(0)

    @property
    def is_idle(self) -> bool:
        """Whether no call waits for its response."""
        return not self._waiting

    def begin(self, call: Call) -> tuple[int, bytes]:
        """Note a new call. Return its id and its request."""
        number = next(self._ids)
        self._used = range(self._used.start or number, number + 1)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        return number, msgspec.json.encode(request(call, number, self._version))

    async def ended(self, number: int) -> Ended:
        """Wait until the call `number` has ended. Cancelling does not end it."""
        return await self._waiting[number]

    def forget(self, number: int) -> None:
        """Wait for the call no longer. A response that comes later is ignored."""
        self._waiting.pop(number, None)

    def fail(self, error: Exception) -> None:
        """End all calls with `error`."""
        for waiting in self._waiting.values():
            _settle(waiting, error)

    def receive(self, text: bytearray) -> bytes | None:
        """Take one message of the server. Return what has to be sent back; None for nothing.

        What cannot be read, or answers no call that was ever made here, ends all calls with `InvalidResponse`, because
        it may have been the answer to any of them. Raises `HalfSurrogatePair`: repair the text, and give it again.
        """
        try:
            messages = decode(without_bom(text), _MESSAGES)
            if isinstance(messages, RpcMessage):
                return self._receive(messages)
            replies = [reply for message in messages if (reply := self._receive(message)) is not None]
        except HalfSurrogatePair:
            raise
        except InvalidResponse as error:
            self.fail(error)
            return None
        return b"[" + b",".join(replies) + b"]" if replies else None

    def _receive(self, message: RpcMessage) -> bytes | None:
        if bytes(message.method) in NOTHING:
            self._respond(message)
            return None
        name = decode(message.method, _NAME)
        if bytes(message.id) in NOTHING:
            for each in (name, *_topics(message.params)):
                if len(each) <= NAME_CHARACTERS:
                    self._notice(each)
            return None
        return self._replied(name, message)

    def _respond(self, message: RpcMessage) -> None:
        if message.names_no_call:  # which of the requests could not be read, it cannot say
            for each in self._waiting.values():
                _settle(each, message)
            return
        number = message.call_id
        waiting = None if number is None else self._waiting.get(number)
        if waiting is not None:
            _settle(waiting, message)
        elif number not in self._used:
            asked = ", ".join(map(str, self._waiting))
            raise InvalidResponse(f"expected only answers with the ids {asked}; got {message.shown_id}")

    def _replied(self, name: str, message: RpcMessage) -> bytes:
        """Answer a request of the server. OVSDB leaves if its ``echo`` gets no answer (RFC 7047, 4.1.11)."""
        version = "2.0" if self._version == "2.0" else None
        both = self._version == "1.0"  # a response of version 1.0 has both members
        if name == "echo":
            result = message.params if len(message.params) else msgspec.Raw(b"[]")
            reply = _Reply(jsonrpc=version, id=message.id, result=result, error=None if both else msgspec.UNSET)
        else:
            error = {"code": _NO_SUCH_METHOD, "message": "this is a client, which has no methods"}
            reply = _Reply(jsonrpc=version, id=message.id, result=None if both else msgspec.UNSET, error=error)
        return msgspec.json.encode(reply)


def _settle(waiting: "asyncio.Future[Ended]", how: Ended) -> None:
    if not waiting.done():
        waiting.set_result(how)


def _topics(params: msgspec.Raw) -> list[str]:
    """Return what a notification is about, if its parameters say so.

    That is their `collection`, as TrueNAS calls it, or the first of a list, as OVSDB's ``update`` has the name of the
    monitor there.
    """
    try:
        given = decode(params, _PARAMS)
        first = given.get("collection") if isinstance(given, dict) else given[0] if given else None
        return [] if first is None or bytes(first)[:1] != b'"' else [decode(first, _NAME)]
    except InvalidResponse:
        return []
