"""Answers that a fault makes up, and answers of upstream that a fault changes. Pure.

The body of a made-up answer is an iterator, so that an answer of 100 MB needs the memory of one piece only.
"""

import itertools
from collections.abc import Iterator
from http.client import responses
from typing import Final, Protocol

import msgspec

from tidegate.verify.faultproxy.faults import (
    AnswerFault,
    DeepJson,
    EndlessBody,
    Html,
    HugeBody,
    RpcError,
    SpoilFault,
    Status,
    TooManyRequests,
    Unauthorized,
)
from tidegate.verify.faultproxy.framing import Headers, ResponseHead
from tidegate.verify.faultproxy.jsonrpc import Asked, around_result, error_answer, spoiled

PIECE_BYTES: Final = 65536
STALLED_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: appl"
"""The incomplete head that the fault `StalledHeaders` sends."""

_JSON: Final = b"application/json"
_PAGE: Final = b"<!doctype html><title>Sign in</title><p>This is not the answer you are looking for.</p>\n"


class AnswerBody(Protocol):
    """The body of an answer, wherever it comes from."""

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        ...


class MadeUp(msgspec.Struct, frozen=True):
    """A made-up answer: its head and the pieces of its body. Implements `AnswerBody`, like `Upstream`."""

    head: ResponseHead
    body: Iterator[bytes]

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end."""
        return next(self.body, b"")


def made_up(fault: AnswerFault, request: Asked) -> MadeUp:
    """Return the answer of `fault` to `request`, without a call to upstream."""
    match fault:
        case Status():
            return plain_status(fault.code)
        case TooManyRequests():
            return plain_status(429, (b"Retry-After", b"%d" % fault.retry_after_s))
        case Unauthorized():
            return plain_status(401, (b"WWW-Authenticate", b'Bearer realm="tidegate faultproxy"'))
        case Html():
            return _whole(200, b"text/html; charset=utf-8", _PAGE)
        case RpcError():
            return _whole(200, _JSON, error_answer(request, code=fault.code, message=fault.message))
        case HugeBody():
            return _huge(request, fault.size_bytes)
        case EndlessBody():
            before, _ = around_result(request)
            endless = itertools.chain([before + b'"'], itertools.repeat(b"x" * PIECE_BYTES))
            return MadeUp(_head(200, (b"Content-Type", _JSON), (b"Transfer-Encoding", b"chunked")), endless)
        case DeepJson():
            before, after = around_result(request)
            pieces = itertools.chain([before], _pieces(b"[", fault.depth), _pieces(b"]", fault.depth), [after])
            return _sized(len(before) + 2 * fault.depth + len(after), filter(None, pieces))
        case _:
            raise AssertionError(f"{fault} makes up no answer")


def plain_status(status: int, *headers: tuple[bytes, bytes]) -> MadeUp:
    """Return an answer with an HTTP error status, and problem details as its body."""
    reason = responses.get(status, "Made Up")
    problem = {"type": "about:blank", "title": reason, "status": status, "detail": "made up by the fault proxy"}
    return _whole(status, b"application/problem+json", msgspec.json.encode(problem), *headers)


def changed(fault: SpoilFault, head: ResponseHead, body: bytes) -> MadeUp:
    """Return upstream's answer as changed by `fault`, with the right Content-Length for the new body."""
    spoilt = spoiled(fault, body)
    length = (b"Content-Length", b"%d" % len(spoilt))
    return MadeUp(head.replacing(length, dropping=frozenset({b"transfer-encoding"})), iter((spoilt,)))


def _whole(status: int, content_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> MadeUp:
    framing = ((b"Content-Type", content_type), (b"Content-Length", b"%d" % len(body)))
    return MadeUp(_head(status, *framing, *headers), iter((body,)))


def _sized(size: int, pieces: Iterator[bytes]) -> MadeUp:
    return MadeUp(_head(200, (b"Content-Type", _JSON), (b"Content-Length", b"%d" % size)), pieces)


def _head(status: int, *headers: tuple[bytes, bytes]) -> ResponseHead:
    reason = responses.get(status, "Made Up")
    return ResponseHead(status=status, reason=reason.encode(), headers=Headers(headers))


def _huge(request: Asked, size: int) -> MadeUp:
    """Return a valid answer of `size` bytes, or more if its JSON frame alone is longer."""
    before, after = around_result(request)
    filler = max(size - len(before) - len(after) - 2, 0)
    pieces = itertools.chain([before + b'"'], _pieces(b"x", filler), [b'"' + after])
    return _sized(len(before) + len(after) + 2 + filler, pieces)


def _pieces(character: bytes, count: int) -> Iterator[bytes]:
    whole, rest = divmod(count, PIECE_BYTES)
    yield from itertools.repeat(character * PIECE_BYTES, whole)
    if rest:
        yield character * rest
