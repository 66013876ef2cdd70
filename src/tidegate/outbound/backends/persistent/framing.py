"""How messages are cut out of a byte stream: what every framing does, and JSON values one after another.

Sans-I/O: bytes go in and messages come out, in linear time and with bounded memory. Knows nothing of JSON-RPC.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Protocol

from tidegate.errors import Disconnected, InvalidResponse

_GAP = re.compile(rb"[ \t\r\n]*+")
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+(?:([{\[])|([}\]])|(")|\Z)', re.DOTALL)
"""The next bracket that is not inside a string, the quote of a string without an end, or the end: it always matches."""

_OPENS, _CLOSES, _QUOTE = 1, 2, 3

_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_OPENING = b"{["
_BACKSLASH = b"\\"


class Goodbye(Disconnected):
    """The server closed the connection in an orderly way, perhaps because it was idle for too long."""


class RpcFraming(Protocol):
    """Cuts the messages out of what one connection receives, and wraps those that it sends."""

    @property
    def is_ready(self) -> bool:
        """Whether messages can be sent: the server has answered `opening`, if that is needed."""
        ...

    def opening(self) -> bytes:
        """Return what has to be sent first."""
        ...

    def wrapped(self, message: bytes) -> bytes:
        """Return the bytes that carry `message`."""
        ...

    def feed(self, data: bytes) -> Iterator[bytearray]:
        """Take received bytes, and yield the messages that are complete with them. Iterate to the end before the next.

        Raises a `BackendError` if the server does not keep to the framing, sends a message that is too long, or says
        goodbye (`Goodbye`). Nothing can be fed after that.
        """
        ...

    def replies(self) -> bytes:
        """Return what the framing itself has to send because of what was fed. Call it after each `feed`."""
        ...

    def ping(self) -> bytes:
        """Return a question that every peer answers in some way; nothing if there is none."""
        ...

    def goodbye(self) -> bytes:
        """Return what is to be sent before the connection is closed."""
        ...


class JsonStream:
    """JSON objects and lists one after another, with nothing or white space between them, as OVSDB sends them.

    RFC 7047 section 4: "no delimiter". A value ends with the bracket that closes it, so only brackets and strings are
    looked at here: who reads the value finds out whether it is JSON. A value has at most `limit_bytes` bytes.
    """

    is_ready = True

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._begun = bytearray()
        self._depth = 0
        self._in_string = False
        self._is_escaped = False  # by a backslash at the end of what was fed
        self._is_first = True

    def opening(self) -> bytes:
        return b""

    def wrapped(self, message: bytes) -> bytes:
        return message

    def replies(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def goodbye(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> Iterator[bytearray]:
        """See `RpcFraming.feed`."""
        if self._is_first and data:
            data, self._is_first = data.removeprefix(codecs.BOM_UTF8), False
        at = 0
        while at < len(data):
            if not self._begun:
                at = _to_value(data, at)
            end = self._scan(data, at)
            self._begun += memoryview(data)[at:end]
            at = end
            if len(self._begun) > self._limit_bytes:
                raise InvalidResponse(f"expected an answer of at most {self._limit_bytes} bytes, got more")
            if self._begun and self._depth == 0:
                message, self._begun = self._begun, bytearray()
                yield message

    def _scan(self, data: bytes, at: int) -> int:
        """Go through the value that goes on at `at`. Return where it ends, or the end of `data` if it does not."""
        if self._in_string:
            at = self._scan_string(data, at)
        for match in _BRACKET.finditer(data, at):
            if match.lastindex == _OPENS:
                self._depth += 1
            elif match.lastindex == _CLOSES:
                self._depth -= 1
                if self._depth == 0:
                    return match.end()
            elif match.lastindex == _QUOTE:
                self._in_string = True
                return self._scan_string(data, match.end())
        return len(data)

    def _scan_string(self, data: bytes, at: int) -> int:
        """Go on inside a string. Return where it ends, or the end of `data`."""
        if self._is_escaped:
            at, self._is_escaped = at + 1, False
        at = _end(_IN_STRING, data, at)
        if at == len(data):
            return at
        # Either the closing quote, or a backslash whose other half has yet to come.
        self._is_escaped = data[at : at + 1] == _BACKSLASH
        self._in_string = self._is_escaped
        return at + 1


def _to_value(data: bytes, at: int) -> int:
    """Return where the next value begins. Raises `InvalidResponse` for anything but white space before it."""
    at = _end(_GAP, data, at)
    if at < len(data) and data[at] not in _OPENING:
        raise InvalidResponse(f"expected a JSON object or list, got {data[at : at + 32]!r}")
    return at


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = pattern.match(data, at)
    assert match is not None, "it matches nothing, too"
    return match.end()
