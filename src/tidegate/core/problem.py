"""HTTP answers to refused requests: problem details (RFC 9457), and the header fields that belong to each status.

Every HTTP answer that refuses something is made here: a WebSocket handshake, a route, an event stream, or a request
that could not be parsed. Knows no server and no framework. They receive a status, fields and a body, or bytes.
"""

import http
from collections.abc import Mapping

import msgspec

from tidegate.errors import (
    AccessRefused,
    ConfigError,
    NothingToReload,
    Problem,
    PublishError,
    RefusalReason,
    ReloadUnderWay,
    UnknownName,
)

MEDIA_TYPE = "application/problem+json"

RefusingError = AccessRefused | PublishError | UnknownName | ConfigError | ReloadUnderWay | NothingToReload
"""The errors that refuse a request."""

_FIELDS = {
    http.HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {"Accept-Encoding": "identity"},
    http.HTTPStatus.UPGRADE_REQUIRED: {"Upgrade": "websocket"},
}
"""The header fields that HTTP requires with a status (RFC 9110)."""

_PUBLISHING_REASONS = {
    400: RefusalReason.MALFORMED,
    403: RefusalReason.PATTERN,
    413: RefusalReason.TOO_LARGE,
    415: RefusalReason.MALFORMED,
    429: RefusalReason.PUBLISHES_RATE,
    507: RefusalReason.TOO_LARGE,
}
"""The reason under which metrics count a refused publish, by its status.

Not counted are 503 and 504: the bus does not take the events, which is a failure of ours.
"""


class ProblemDetails(msgspec.Struct, frozen=True):
    """The body of every HTTP error. `detail` says what was expected and what was received.

    `request_id` is that of the request, by which it is found in the log.
    """

    status: int
    title: str
    detail: str
    type: str = "about:blank"
    request_id: str = ""


class ConfigurationProblem(msgspec.Struct, frozen=True):
    """One thing wrong with a configuration: where, what was expected, and what is there."""

    path: str
    expected: str
    got: str


class RefusedConfiguration(ProblemDetails, frozen=True):
    """The body of the answer to a reload whose configuration is refused. `errors` is all that is wrong with it."""

    errors: tuple[ConfigurationProblem, ...] = ()


class ProblemAnswer(msgspec.Struct, frozen=True):
    """The HTTP answer to a refused request. `fields` are its header fields, except those that describe the body.

    `reason` is the label under which metrics count the refusal. None if they do not count it. `errors` is what is wrong
    with a configuration that was refused.
    """

    status: int
    detail: str
    fields: Mapping[str, str] = {}
    reason: RefusalReason | None = None
    errors: tuple[Problem, ...] = ()

    def body(self, request_id: str) -> bytes:
        """Return the `ProblemDetails` as JSON."""
        details = (self.status, http.HTTPStatus(self.status).phrase, self.detail)
        if self.errors:
            errors = tuple(ConfigurationProblem(each.path, each.expected, each.got) for each in self.errors)
            return msgspec.json.encode(RefusedConfiguration(*details, request_id=request_id, errors=errors))
        return msgspec.json.encode(ProblemDetails(*details, request_id=request_id))

    def closing(self, common: bytes = b"", *, request_id: str) -> bytes:
        """Return the whole answer as HTTP/1.1 bytes, with the fields ``Connection: close`` and ``X-Request-ID``.

        `common` are further header lines, each with its line end.
        """
        body = self.body(request_id)
        fields = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Request-ID": request_id,
            **self.fields,
        }
        phrase = http.HTTPStatus(self.status).phrase
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n%b" % (self.status, phrase.encode(), common, head.encode("latin-1"), body)


UNFORESEEN = ProblemAnswer(500, "the request failed for a reason that only the server's log tells")
"""The answer to a request that failed for a reason that nobody foresaw. Log the reason: the client is not told."""


def refusal(error: RefusingError, more: Mapping[str, str] = {}) -> ProblemAnswer:
    """Return the answer to the request that `error` refuses. `more` are header fields to add."""
    match error:
        case AccessRefused():
            status, reason = error.status, error.reason
        case PublishError():
            status, reason = error.status, _PUBLISHING_REASONS.get(error.status)
        case UnknownName():
            return ProblemAnswer(404, str(error))
        case ConfigError():
            count = f"{len(error.problems)} problem{'s' if len(error.problems) > 1 else ''}"
            detail = f"the configuration has {count}, see `errors`: the one that is in force stays"
            return ProblemAnswer(422, detail, errors=error.problems)
        case ReloadUnderWay():
            return ProblemAnswer(409, str(error), {"Retry-After": "1"})
        case NothingToReload():
            return ProblemAnswer(409, str(error))
    retry = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return ProblemAnswer(status, str(error), {**retry, **_FIELDS.get(http.HTTPStatus(status), {}), **more}, reason)
