"""The messages of JSON-RPC: how a request is written, and what a response means, however careless the server is.

For every way in which they may be carried. Knows no transport, and not which call a response belongs to.
"""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from tidegate.core.payload import compact, decode
from tidegate.errors import ApplicationError, BackendError, InvalidResponse
from tidegate.ports import Call

Version = Literal["2.0", "1.0"]

MESSAGE_CHARACTERS = 500
"""How much of a backend's error message is kept: a few sentences. It is published and logged, so it is limited."""

NOTHING = (b"", b"null")
"""A member that is missing or null."""

_REASONS = ("reason", "message", "detail")
"""Members of an error's `data` that say in words what its message does not."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


class RpcRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request object. Version 1.0 has no ``jsonrpc``."""

    jsonrpc: Literal["2.0"] | None = None
    id: int
    method: str
    params: msgspec.Raw


def request(call: Call, request_id: int, version: Version = "2.0") -> RpcRequest:
    """Return the request for `call`. Version 1.0 knows only lists of parameters, so an empty object becomes one."""
    if version == "2.0":
        return RpcRequest(jsonrpc="2.0", id=request_id, method=call.method, params=call.params)
    params = msgspec.Raw(b"[]") if bytes(call.params) == b"{}" else call.params
    return RpcRequest(id=request_id, method=call.method, params=params)


class RpcResponse(msgspec.Struct, frozen=True):
    """A response object with its members as raw JSON; a missing one is empty."""

    jsonrpc: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()

    @property
    def has_error(self) -> bool:
        return bytes(self.error) not in NOTHING

    @property
    def has_result(self) -> bool:
        return bytes(self.result) not in NOTHING or (len(self.result) > 0 and not self.has_error)

    @property
    def names_no_call(self) -> bool:
        """Whether it is an error about a request whose id the backend could not read (specification, section 5)."""
        return self.has_error and bytes(self.id) in NOTHING

    @property
    def call_id(self) -> int | None:
        """The id as an integer, whatever JSON type it has; None if it is not one."""
        return _integer(self.id)

    @property
    def shown_id(self) -> str:
        """The id in the words of a message."""
        text = bytes(self.id)
        return f"id {text[:32]!r}" if text else "no id"


class _Error(msgspec.Struct, frozen=True):
    """An error object with its members as raw JSON."""

    code: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


SINGLE = msgspec.json.Decoder(RpcResponse)
BATCH: msgspec.json.Decoder[list[RpcResponse] | RpcResponse] = msgspec.json.Decoder(list[RpcResponse] | RpcResponse)
_ERROR = msgspec.json.Decoder(_Error)
_SCALAR: msgspec.json.Decoder[int | float | str] = msgspec.json.Decoder(int | float | str)
_MEMBERS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def outcome(response: RpcResponse) -> msgspec.Raw | ApplicationError | InvalidResponse:
    """Return the compact result, the error of the application, or what is wrong with the response."""
    if bytes(response.jsonrpc) not in {b'"2.0"', *NOTHING}:
        return InvalidResponse(f'expected jsonrpc to be "2.0", got {bytes(response.jsonrpc)[:32]!r}')
    if response.has_result == response.has_error:
        got = "both" if response.has_error else "neither"
        return InvalidResponse(f"expected either a result or an error, got {got}")
    try:
        return _application_error(response.error) if response.has_error else compact(response.result)
    except InvalidResponse as exc:
        return exc


def asks_for_login(answer: msgspec.Raw | BackendError, marks: Iterable[int | str]) -> bool:
    """Return whether `answer` is an error that means "log in": its code is in `marks`, or its message contains one."""
    if not isinstance(answer, ApplicationError):
        return False
    text = str(answer)
    return any(mark in text if isinstance(mark, str) else mark == answer.rpc_code for mark in marks)


def refuses(answer: msgspec.Raw | BackendError) -> bool:
    """Return whether `answer` to a login says no: it is an error of the application, or just `false`."""
    return isinstance(answer, ApplicationError) or (isinstance(answer, msgspec.Raw) and bytes(answer) == b"false")


def _application_error(raw: msgspec.Raw) -> ApplicationError:
    """Make the error. Its text is the server's message, or the whole error as JSON if it has no message."""
    if not bytes(compact(raw)).startswith(b"{"):
        return ApplicationError(None, _words(raw))
    error = decode(raw, _ERROR)
    message = _words(raw if bytes(error.message) in {b'""', *NOTHING} else error.message)
    reason = _reason(error.data)
    if reason and reason not in message:
        message = f"{message}: {reason}"[:MESSAGE_CHARACTERS]
    code = _integer(error.code)
    if code is None and bytes(error.code) not in NOTHING:
        message = f"{message} ({_words(error.code)})"
    return ApplicationError(code, message)


def _reason(data: msgspec.Raw) -> str:
    """Return the words in an error's `data`: the text that it is, or the text of a member that says why; or nothing."""
    text = bytes(data)
    if text[:1] == b'"':
        return _words(data)
    if text[:1] != b"{":
        return ""
    members = decode(data, _MEMBERS)
    given = (members[name] for name in _REASONS if name in members)
    return next((_words(each) for each in given if bytes(each)[:1] == b'"'), "")


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
