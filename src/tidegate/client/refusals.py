"""Why a connection could not be opened or ended, and whether trying again can help."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from tidegate.errors import AccessRefused, CloseCode, StreamClosed, TidegateError, Unreachable

_FINAL_CODES = frozenset({1002, 1003, 1007, 1009, 1010, CloseCode.UNAUTHENTICATED, CloseCode.FORBIDDEN})
"""Close codes after which the same client would only meet the same end."""

_PASSING_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that pass by themselves."""

_MAX_SHOWN = 300


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that failed or ended, but may be had again, not before `at_least_s` seconds."""

    reason: str
    code: int | None = None
    at_least_s: float = 0.0


def judge_handshake(error: OSError | InvalidHandshake) -> Lost | TidegateError:
    """What a failed handshake means: try again, or the error to raise."""
    match error:
        case InvalidStatus():
            return _judge_response(error.response)
        case TimeoutError():
            return Lost(reason="no answer in time")
        case OSError():
            return Lost(reason=error_text(error))
        case _:
            return Lost(reason=f"no WebSocket there: {error}")


def judge_close(error: ConnectionClosed, *, said: str | None) -> Lost | StreamClosed:
    """What the end of a connection means; `said` is the server's own explanation, where it sent one."""
    # The side that closed first is the one that had a reason.
    close = error.rcvd if error.rcvd_then_sent or error.sent is None else error.sent
    if close is None:
        return Lost(reason="the connection broke off")
    reason = said or close.reason or f"the connection was closed with code {close.code}"
    if close.code in _FINAL_CODES:
        return StreamClosed(close.code, reason)
    return Lost(reason=reason, code=close.code)


def problem_detail(body: bytes) -> str | None:
    """The ``detail`` or ``title`` of problem details (RFC 9457), or None where `body` is something else."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return (problem.detail or problem.title or "")[:_MAX_SHOWN] or None


def retry_after_s(header: str | None) -> int | None:
    """The seconds of a ``Retry-After``; None for an absent one, and for a date, which Tidegate never sends."""
    return int(header) if header and header.isascii() and header.isdecimal() else None


def error_text(error: OSError) -> str:
    """The operating system's words for `error`, and what was wrong with a TLS handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS there: {error.reason or error}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error) or type(error).__name__


def client_error_text(error: aiohttp.ClientError) -> str:
    """Why a request came to nothing, in the operating system's words where it has any."""
    return error_text(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else str(error)


@contextmanager
def reaching(url: str, *, timeout_s: float) -> Iterator[None]:
    """What goes wrong with a request to `url` within this is `Unreachable`."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"no answer from {url} within {timeout_s:g} s") from None
    except aiohttp.ClientError as error:
        raise Unreachable(f"no gateway answers at {url}: {client_error_text(error)}") from error


class _Problem(msgspec.Struct):
    title: str | None = None
    detail: str | None = None


def _judge_response(response: Response) -> Lost | AccessRefused:
    status = response.status_code
    reason = problem_detail(bytes(response.body)) or f"HTTP {status} {response.reason_phrase}".strip()
    wait_s = retry_after_s(response.headers.get("Retry-After"))
    if status >= 500 or status in _PASSING_STATUSES:
        return Lost(reason=reason, at_least_s=float(wait_s or 0))
    return AccessRefused(status, reason, retry_after_s=wait_s)
