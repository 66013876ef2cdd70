"""The one place where aiohttp's, TLS's and the socket's errors become Tidegate's.

Every message names the peer as host:port and says in words what happened; none repeats a header or a URL, which
may hold secrets.
"""

import contextlib
import datetime as dt
import email.utils
import http
import os
import re
import ssl
from collections.abc import Iterator

import aiohttp

from tidegate.errors import Disconnected, HttpStatus, InvalidResponse

_SECONDS = re.compile(r"[0-9]{1,10}")


class Lost(aiohttp.ClientConnectionError):
    """A connection that could not be opened, or ended before the head of an answer was whole; `__cause__` says how.

    `answer_begun`: a part of the head had come.
    """

    def __init__(self, *, answer_begun: bool) -> None:
        self.answer_begun = answer_begun
        super().__init__()


@contextlib.contextmanager
def mapped(peer: str) -> Iterator[None]:
    """Raise what aiohttp, TLS and sockets raise in the block as `Disconnected` or `InvalidResponse`."""
    try:
        yield
    except aiohttp.ClientResponseError as exc:
        raise InvalidResponse(f"{peer}: expected an HTTP response, got bytes that are none") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise Disconnected(f"{peer}: {_words(exc)}") from exc


def status_error(peer: str, status: int, retry_after: str | None, *, wall: float) -> HttpStatus:
    """The error for an HTTP status that is no success; `wall` is now in Unix seconds, for dates in `retry_after`."""
    try:
        phrase = f" {http.HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    wish = None if retry_after is None else retry_after_s(retry_after, wall=wall)
    return HttpStatus(status, f"{peer}: expected an HTTP success, got {status}{phrase}", retry_after_s=wish)


def retry_after_s(text: str, *, wall: float) -> float | None:
    """Seconds from `wall` (Unix time) that a ``Retry-After`` header asks for, RFC 9110 section 10.2.3.

    A moment that has passed is 0; None for text that is neither a number of seconds nor an HTTP date.
    """
    if _SECONDS.fullmatch(text.strip()):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # the asctime form, which is in UTC too
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0.0, moment.timestamp() - wall)


def _words(exc: BaseException | None) -> str:
    match exc:
        case Lost():
            return _words(exc.__cause__)
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as refused):
            return f"its certificate is not trusted ({refused.verify_message})"
        case aiohttp.ClientConnectorDNSError():
            return f"its name cannot be resolved ({exc.strerror})"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection before it answered"
        case aiohttp.ClientPayloadError():
            return "the connection ended in the middle of the answer"
    return _socket_words(exc)


def _socket_words(exc: BaseException | None) -> str:
    origin = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    for error in (origin.__cause__ if origin else None, origin):
        match error:
            case ssl.SSLError():
                return f"TLS failed ({getattr(error, 'reason', None) or 'no reason given'})"
            case OSError(errno=int() as number) if number > 0:
                return os.strerror(number)
    return f"the connection failed ({type(exc).__name__})"
