"""Why a connection could not be opened or ended, and whether trying again can help."""

import os
import re
import ssl

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response

from tidegate.client.credentials import Credentials
from tidegate.errors import AccessRefused, CloseCode, StreamClosed, TidegateError

_FINAL_CODES = frozenset({1002, 1003, 1007, 1009, 1010, CloseCode.UNAUTHENTICATED, CloseCode.FORBIDDEN})
"""Close codes after which the same client would only meet the same end."""

_PASSING_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that pass by themselves."""

FAILED_HANDSHAKE = (OSError, WebSocketException, UnicodeError)
"""What opening a connection raises where no gateway answers: a name that cannot be one is a `UnicodeError`."""

_MAX_SHOWN = 300


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that failed or ended, but may be had again, not before `at_least_s` seconds."""

    reason: str
    code: int | None = None
    at_least_s: float = 0.0


def judge_handshake(error: Exception) -> Lost | TidegateError:
    """What a failed handshake, one of `FAILED_HANDSHAKE`, means: try again, or the error to raise."""
    match error:
        case InvalidStatus():
            return _judge_response(error.response)
        case TimeoutError():
            return Lost(reason="no answer in time")
        case OSError():
            return Lost(reason=error_text(error))
        case UnicodeError():
            return Lost(reason="its name cannot be one")
        case _:
            return Lost(reason=f"no WebSocket there: {_shortened(str(error))}")


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


def judge_again(verdict: Lost | TidegateError, credentials: Credentials) -> Lost | TidegateError:
    """What a `verdict` means to a stream that was let in before.

    In the middle of a deployment anything may answer in the gateway's place, so only time can tell: it tries again.
    A token that is refused ends it unless `credentials` can show another one; one that ended while it was in use is
    shown once more, for the gateway to say what it thinks of it.
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
    """An HTTP answer in a line: where it redirects to, without what may be secret in that."""
    text = f"HTTP {status} {phrase}".strip()
    if location is None or not 300 <= status < 400:
        return text
    return f"{text}, a redirect to {_shortened(_bare(location))} that is not followed"


def problem_detail(body: bytes) -> str | None:
    """The ``detail`` or ``title`` of problem details (RFC 9457), or None where `body` is something else."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return (problem.detail or problem.title or "")[:_MAX_SHOWN] or None


def retry_after_s(header: str | None) -> int | None:
    """The seconds of a ``Retry-After``; None for an absent one, and for a date, which Tidegate never sends."""
    return int(header) if header and re.fullmatch(r"[0-9]{1,9}", header) else None


def error_text(error: OSError) -> str:
    """The operating system's words for `error`, and what was wrong with a TLS handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS there: {error.reason or error}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error) or type(error).__name__


def _bare(location: str) -> str:
    """`location` without user, query and fragment."""
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
