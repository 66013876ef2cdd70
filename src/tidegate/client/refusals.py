"""Decides why a connection failed or ended, and whether a retry can help."""

import os
import re
import ssl

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response

from tidegate.client.credentials import Credentials
from tidegate.errors import AccessRefused, CloseCode, StreamClosed, TidegateError

_FINAL_CODES = frozenset({1002, 1003, 1007, 1009, 1010, CloseCode.UNAUTHENTICATED, CloseCode.FORBIDDEN})
"""Close codes after which a retry would end the same way."""

_PASSING_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that are temporary."""

FAILED_HANDSHAKE = (OSError, WebSocketException, UnicodeError)
"""What opening a connection raises when it fails. An invalid host name raises `UnicodeError`."""

_MAX_SHOWN = 300


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that failed or ended, where a retry can help. Wait `at_least_s` seconds or longer before it."""

    reason: str
    code: int | None = None
    at_least_s: float = 0.0


def judge_handshake(error: Exception) -> Lost | TidegateError:
    """Decide what a failed handshake, one of `FAILED_HANDSHAKE`, means: a retry, or the error to raise."""
    match error:
        case InvalidStatus():
            return _judge_response(error.response)
        case TimeoutError():
            return Lost(reason="no answer in time")
        case OSError():
            return Lost(reason=error_text(error))
        case UnicodeError():
            return Lost(reason="the host name is invalid")
        case _:
            return Lost(reason=f"no WebSocket there: {_shortened(str(error))}")


def judge_close(error: ConnectionClosed, *, said: str | None) -> Lost | StreamClosed:
    """Decide what the end of a connection means. `said` is the server's own explanation, if it sent one."""
    # The side that closed first had the reason; the other side only echoes the close code.
    close = error.rcvd if error.rcvd_then_sent or error.sent is None else error.sent
    if close is None:
        return Lost(reason="the connection broke off")
    reason = said or close.reason or f"the connection was closed with code {close.code}"
    if close.code in _FINAL_CODES:
        return StreamClosed(close.code, reason)
    return Lost(reason=reason, code=close.code)


def judge_reconnect(verdict: Lost | TidegateError, credentials: Credentials) -> Lost | TidegateError:
    """Reconsider a `verdict` for a stream that the gateway has accepted before.

    During a deployment, something else may answer at the gateway's address for a while. So other refusals are retried.
    A refused token ends the stream, unless `credentials` can supply a new one. If a token became invalid while it was
    in use, the stream reconnects, so that the gateway can accept a new token or say why it refuses this one.
    """
    match verdict:
        case AccessRefused(status=401 | 403) if not credentials.refused():
            return verdict
        case AccessRefused():
            return Lost(reason=str(verdict), at_least_s=float(verdict.retry_after_s or 0))
        case StreamClosed(code=CloseCode.UNAUTHENTICATED | CloseCode.FORBIDDEN):
            credentials.refused()
            return Lost(reason=str(verdict), code=verdict.code)
        case _:
            return verdict


def answer_text(status: int, phrase: str, *, location: str | None = None) -> str:
    """Describe an HTTP response in one line. The target of a redirect is shown without parts that may be secret."""
    text = f"HTTP {status} {phrase}".strip()
    if location is None or not 300 <= status < 400:
        return text
    return f"{text}, a redirect to {_shortened(_bare(location))} that is not followed"


def problem_detail(body: bytes) -> str | None:
    """Return the ``detail`` or ``title`` of problem details (RFC 9457), or None if `body` is something else."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return (problem.detail or problem.title or "")[:_MAX_SHOWN] or None


def retry_after_s(header: str | None) -> int | None:
    """Return the seconds of a ``Retry-After`` header. None if it is absent or a date, which Tidegate never sends."""
    return int(header) if header and re.fullmatch(r"[0-9]{1,9}", header) else None


def error_text(error: OSError) -> str:
    """Describe `error` in the operating system's words, and a failed TLS handshake in OpenSSL's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS there: {error.reason or error}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error) or type(error).__name__


def _bare(location: str) -> str:
    """Return `location` without user, query and fragment."""
    address, *_ = re.split(r"[?#]", location, maxsplit=1)
    return re.sub(r"(?<=://)[^/]*@", "", address)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


class _Problem(msgspec.Struct):
    title: str | None = None
    detail: str | None = None


def _judge_response(response: Response) -> Lost | AccessRefused:
    status = response.status_code
    reason = problem_detail(bytes(response.body)) or answer_text(
        status, response.reason_phrase, location=next(iter(response.headers.get_all("Location")), None)
    )
    wait_s = retry_after_s(next(iter(response.headers.get_all("Retry-After")), None))
    if status >= 500 or status in _PASSING_STATUSES:
        return Lost(reason=reason, at_least_s=float(wait_s or 0))
    return AccessRefused(status, reason, retry_after_s=wait_s)
