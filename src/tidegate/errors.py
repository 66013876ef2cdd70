"""The one error tree, and the codes that go over the wire.

    TidegateError
    ├── ConfigError            everything wrong with a configuration, at once
    ├── TopicError             text that is no event type, or no pattern
    ├── PositionError          text that is no ``EPOCH:SEQ``
    ├── MessageError           a client's message that is answered with ``error``
    ├── AccessRefused          a request that is not let in
    ├── PublishError           an event that may not be published
    ├── UnknownName            no source, breaker, backend or type of that name
    ├── StoreError             the state directory cannot be used
    │   └── Unstorable         a value that no retry would store
    ├── MissingExtra           a part whose packages are not installed
    ├── Unreachable            no gateway answers where a client looked for one
    ├── StreamClosed           a client's stream was closed for good
    ├── BusError               events that the bus did not take
    │   ├── BusRefused         certainly not published
    │   └── BusUnknown         perhaps published, or yet to be
    └── BackendError           a call that brought no usable answer
        ├── Disconnected       refused, reset, DNS, TLS, end of stream in mid-body
        ├── DeadlineExceeded   our own deadline passed
        ├── HttpStatus         an HTTP status that is no success
        ├── NoCredentials      our own token for the backend cannot be read
        ├── InvalidResponse    an answer that is not what the protocol promises
        ├── MappingFailed      a good answer in which our configuration finds nothing
        └── ApplicationError   a JSON-RPC error object

Each adapter maps its library's errors to these in one place. This module imports nothing of the package.
"""

import enum
from collections.abc import Sequence

import msgspec

__all__ = [
    "AccessRefused",
    "ApplicationError",
    "BackendError",
    "BusError",
    "BusRefused",
    "BusUnknown",
    "CloseCode",
    "ConfigError",
    "DeadlineExceeded",
    "Disconnected",
    "ErrorCode",
    "HttpStatus",
    "InvalidResponse",
    "MappingFailed",
    "MessageError",
    "MessageErrorCode",
    "MissingExtra",
    "NoCredentials",
    "PositionError",
    "Problem",
    "PublishError",
    "RefusalReason",
    "StoreError",
    "StreamClosed",
    "TidegateError",
    "TopicError",
    "UnknownName",
    "Unreachable",
    "Unstorable",
]


class ErrorCode(enum.StrEnum):
    """Why an event is stale, or a call failed: ``error_code`` on events."""

    RPC_DISCONNECT = "RPC_DISCONNECT"
    RPC_TIMEOUT = "RPC_TIMEOUT"
    RPC_HTTP_STATUS = "RPC_HTTP_STATUS"
    RPC_AUTH = "RPC_AUTH"
    RPC_INVALID_RESPONSE = "RPC_INVALID_RESPONSE"
    RPC_APPLICATION_ERROR = "RPC_APPLICATION_ERROR"
    CIRCUIT_BREAKER_OPEN = "CIRCUIT_BREAKER_OPEN"
    OVERDUE = "OVERDUE"
    RESTORED = "RESTORED"
    BUS_DISCONNECTED = "BUS_DISCONNECTED"


class MessageErrorCode(enum.StrEnum):
    """What was wrong with a client's message: ``data.code`` of an ``error``."""

    INVALID_JSON = "INVALID_JSON"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    UNKNOWN_MESSAGE_TYPE = "UNKNOWN_MESSAGE_TYPE"
    INVALID_PATTERN = "INVALID_PATTERN"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    RATE_LIMITED = "RATE_LIMITED"
    FORBIDDEN = "FORBIDDEN"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class RefusalReason(enum.StrEnum):
    """Why somebody was not let in: the label `reason` of ``tidegate_refusals_total``."""

    HOST = "host"
    ORIGIN = "origin"
    NO_TOKEN = "no_token"  # noqa: S105 - no token, but what is wrong with one
    BAD_TOKEN = "bad_token"  # noqa: S105
    ROLE = "role"
    PATTERN = "pattern"
    MALFORMED = "malformed"
    MAX_CLIENTS = "max_clients"
    CONNECTS_RATE = "connects_rate"
    DRAINING = "draining"
    KEYS_UNAVAILABLE = "keys_unavailable"
    HEAD_TIMEOUT = "head_timeout"
    NO_FILE_DESCRIPTOR = "no_file_descriptor"
    TOO_LARGE = "too_large"


class CloseCode(enum.IntEnum):
    """WebSocket close codes beyond those of RFC 6455 section 7.4.1 that the sans-I/O layer sends itself."""

    NORMAL = 1000
    GOING_AWAY = 1001
    INTERNAL_ERROR = 1011
    DRAINING = 1012
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    TOO_SLOW = 4408
    TOO_MANY_MESSAGES = 4429


class TidegateError(Exception):
    """Every error that this package raises on purpose."""


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a configuration: where, what was expected, what came instead."""

    path: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.got}"


class ConfigError(TidegateError):
    """All problems of a configuration together, so that one run shows everything there is to mend."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class TopicError(TidegateError, ValueError):
    """Text that is neither an event type nor a pattern; the message says what was expected and what came."""


class PositionError(TidegateError, ValueError):
    """Text that is not a position of the form ``EPOCH:SEQ``."""


class MessageError(TidegateError):
    """A client's message that is answered with ``error``; the connection stays open."""

    def __init__(self, code: MessageErrorCode, message: str, *, retryable: bool = False) -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(message)


class AccessRefused(TidegateError):
    """A request that is not let in; `status` is the HTTP status that says so.

    `reason` is what it is counted under, None where it is not. `retry_after_s` is set where coming back later can help.
    """

    def __init__(
        self, status: int, message: str, *, reason: RefusalReason | None = None, retry_after_s: int | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(message)


class PublishError(TidegateError):
    """An event that may not be published; `status` is the HTTP status that says so (400, 403, 413, 415, 429 or 507).

    `retry_after_s` is set where the same would be published after that many seconds.
    """

    def __init__(self, message: str, *, status: int, retry_after_s: int | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(message)


class UnknownName(TidegateError, LookupError):
    """Nothing of that name is configured; the message lists what is."""


class StoreError(TidegateError):
    """The state directory cannot be used: another process holds it, or it cannot be read or written."""


class Unstorable(StoreError):
    """The store cannot take one of the values, and trying again would not help. Nothing was written."""


class MissingExtra(TidegateError, ImportError):
    """A part of Tidegate whose packages are not installed; the message has the command that installs them."""


class Unreachable(TidegateError):
    """No gateway answers where a client looked for one."""


class StreamClosed(TidegateError):
    """A client's stream was closed for good: `code` is the close code, and connecting again would not help."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class BusError(TidegateError):
    """The bus did not take what was published."""


class BusRefused(BusError):
    """The events were certainly not published, and will not be."""


class BusUnknown(BusError):
    """The events may have been published, or may be yet: publish the same with the same id again."""


class BackendError(TidegateError):
    """A call that brought no usable answer. `code` is what subscribers are told.

    `retry_after_s` is for how many seconds the backend asks to be left alone; None if it does not.
    """

    code: ErrorCode
    retry_after_s: float | None = None


class Disconnected(BackendError):
    """Refused, reset, DNS, TLS, or the end of the stream in mid-body."""

    code = ErrorCode.RPC_DISCONNECT


class DeadlineExceeded(BackendError):
    """No whole answer within the call's deadline."""

    code = ErrorCode.RPC_TIMEOUT


class HttpStatus(BackendError):
    """An HTTP status that is no success. Of `retry_after_s`, what came with a 429 or 503 is heeded."""

    def __init__(self, status: int, message: str, *, retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        self.code = ErrorCode.RPC_AUTH if status in {401, 403} else ErrorCode.RPC_HTTP_STATUS
        super().__init__(message)


class NoCredentials(BackendError):
    """Our token for the backend cannot be had: nothing was sent, the backend is not to blame."""

    code = ErrorCode.RPC_AUTH


class InvalidResponse(BackendError):
    """An answer that is not JSON, has the wrong id or shape, is too large or nested too deep."""

    code = ErrorCode.RPC_INVALID_RESPONSE


class MappingFailed(BackendError):
    """A good answer without what `select`, `items` and `key` name, or with more data than `event_bytes`.

    The configuration and the answer do not agree; the backend is well.
    """

    code = ErrorCode.RPC_INVALID_RESPONSE


class ApplicationError(BackendError):
    """A JSON-RPC error object; `rpc_code` is its ``code``, None for one that is no integer.

    `retry_after_s` is set by who read it from an HTTP 429 or 503.
    """

    code = ErrorCode.RPC_APPLICATION_ERROR

    def __init__(self, rpc_code: int | None, message: str, *, retry_after_s: float | None = None) -> None:
        self.rpc_code = rpc_code
        self.retry_after_s = retry_after_s
        super().__init__(message if rpc_code is None else f"{message} ({rpc_code})")
