"""Maps the errors of sockets, TLS and HTTP to Tidegate's errors. The only place that does.

Every message names the peer, as host:port or by the path of its socket, and says in words what happened. Headers and
URLs may contain secrets, so no message repeats them, except for the target of a redirect, which is masked.
"""

import contextlib
import datetime as dt
import email.utils
import errno
import http
import os
import re
import socket
import ssl
from collections.abc import Iterator

from yarl import URL

from tidegate.errors import Disconnected, HttpStatus, InvalidResponse
from tidegate.outbound.http_client.answer import Unreadable

LOCATION_CHARACTERS = 300
"""How much of a redirect's target is shown: enough to recognize it, and it ends up in a log line."""

_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
"""Errors that come from a lack of descriptors, memory or threads on this machine."""

_NUMBER = re.compile(r"\[Errno ([0-9]{1,4})\]")
_SECONDS = re.compile(r"[0-9]{1,10}")


class Lost(Exception):
    """The connection ended before the answer was complete. `__cause__` is the error, None if it was closed normally.

    `answer_begun` says whether any byte of the answer had come, and `in_body` whether its head was complete.
    """

    def __init__(self, *, answer_begun: bool, in_body: bool = False) -> None:
        self.answer_begun = answer_begun
        self.in_body = in_body
        super().__init__()


class Unconnected(OSError):
    """No connection to a Unix socket, or by way of a proxy. `strerror` says in words why, and what helps."""


@contextlib.contextmanager
def mapped(peer: str) -> Iterator[None]:
    """Turn errors of sockets, TLS and parsing in the block into `Disconnected` or `InvalidResponse`."""
    try:
        yield
    except Unreadable as exc:
        raise InvalidResponse(f"{peer}: {exc}") from exc
    except (Lost, OSError) as exc:
        raise Disconnected(f"{peer}: {words(exc)}") from exc


def is_our_lack(exc: OSError) -> bool:
    """Return whether no connection could be made because this machine lacks something: that blames no backend.

    `exc` is what connecting raised. If the addresses of a name failed with different errors, all are considered.
    """
    if isinstance(exc, socket.gaierror):
        return exc.errno == socket.EAI_MEMORY
    numbers = _numbers(exc)
    # EADDRNOTAVAIL means that no port is free. But it is also what ``::1`` gives where IPv6 is switched off, so it
    # counts only if all addresses failed with it.
    return bool(numbers & _LACKING) or numbers == {errno.EADDRNOTAVAIL}


def had_stood(exc: OSError) -> bool:
    """Return whether `exc`, which connecting raised, came after a connection had stood, if only for a moment.

    A peer that accepts and resets at once can be quicker than our look at the socket. The kernel tells this apart: a
    reset of a connection that does not stand yet is ECONNREFUSED.
    """
    return bool(_numbers(exc) & {errno.ECONNRESET, errno.EPIPE})


def status_error(
    peer: str, status: int, retry_after: str | None, *, wall: float, location: URL | None = None
) -> HttpStatus:
    """Make the error for an HTTP status that is not a success.

    `wall` is the current time in Unix seconds, for a date in `retry_after`. `location` is the target of a redirect.
    """
    try:
        phrase = f" {http.HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    target = shown(location) if location and 300 <= status < 400 else None
    elsewhere = "" if target is None else f" to {target} (redirects are not followed)"
    wish = None if retry_after is None else retry_after_s(retry_after, wall=wall)
    message = f"{peer}: expected an HTTP success, got {status}{phrase}{elsewhere}"
    return HttpStatus(status, message, retry_after_s=wish, location=target)


def shown(url: URL) -> str:
    """Return `url` without its user and fragment, and with the values in its query masked: all may be secret."""
    query = "&".join(_unvalued(part) for part in url.raw_query_string.split("&") if part)
    text = f"{url.with_user(None).with_query(None).with_fragment(None)}{'?' if query else ''}{query}"
    return text if len(text) <= LOCATION_CHARACTERS else text[:LOCATION_CHARACTERS] + "…"


def retry_after_s(text: str, *, wall: float) -> float | None:
    """Parse a ``Retry-After`` header (RFC 9110 section 10.2.3) into seconds from `wall`, the current Unix time.

    Returns 0.0 for a date in the past, and None for text that is neither a number of seconds nor an HTTP date.
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


def _numbers(exc: OSError) -> set[int]:
    # All addresses of a name failed, with different errors. aiohappyeyeballs joins only their texts.
    return {exc.errno} if exc.errno else {int(number) for number in _NUMBER.findall(str(exc))}


def _unvalued(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}=***" if equals else "***"


def words(exc: BaseException) -> str:
    """Say in words what happened to a connection."""
    match exc:
        case Lost(in_body=True):
            return "the connection ended in the middle of the answer"
        case Lost(__cause__=None):
            return "it closed the connection before it answered"
        case Lost(__cause__=BaseException() as cause):
            return words(cause)
        case socket.gaierror():
            return f"its name cannot be resolved ({exc.strerror})"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({exc.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({getattr(exc, 'reason', None) or 'no reason given'})"
        case Unconnected():
            return str(exc.strerror)
        case OSError(errno=int() as number) if number > 0:
            return os.strerror(number)
        case ConnectionResetError():
            return "Connection reset by peer"
        case OSError() if numbers := dict.fromkeys(_NUMBER.findall(str(exc))):  # see `_numbers`
            return " and ".join(os.strerror(int(number)) for number in numbers)
    return f"the connection failed ({type(exc).__name__})"
