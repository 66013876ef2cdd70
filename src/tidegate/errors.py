"""The one error tree. The codes that errors have on the wire are in `codes`.

    TidegateError
    ├── ConfigError            all problems of a configuration
    ├── TopicError             text that is not a valid event type or pattern
    ├── PositionError          text that is not a valid ``EPOCH:SEQ``
    ├── MessageError           a client's message that is answered with ``error``
    ├── AccessRefused          a request that is refused
    ├── PublishError           an event that may not be published
    ├── UnknownName            no source, breaker, backend or type has that name
    ├── StoreError             the state directory cannot be used
    │   └── Unstorable         a value that cannot be stored, also not by a retry
    ├── ReloadUnderWay         the configuration is being reloaded already
    ├── NothingToReload        there is no file from which to reload it
    ├── MissingExtra           a part whose packages are not installed
    ├── Unreachable            no gateway answers at the address
    ├── StreamClosed           the gateway closed a client's stream for good
    ├── BusError               the bus did not confirm the events
    │   ├── BusRefused         certainly not published
    │   └── BusUnknown         perhaps published, now or later
    └── BackendError           a call without a usable answer
        ├── Disconnected       refused, reset, DNS, TLS, connection ended in mid-body
        ├── DeadlineExceeded   no complete answer within our timeout
        ├── HttpStatus         an HTTP status that is not a success
        ├── NoCredentials      our own secret for the backend cannot be read
        ├── LoginRefused       the backend refused our login, or a call right after it
        ├── InvalidResponse    an answer that breaks the protocol
        ├── MappingFailed      a valid answer without the data that our configuration names
        └── ApplicationError   a JSON-RPC error object

Each adapter maps its library's errors to these in one place. This module imports only `codes`.
"""

from collections.abc import Sequence

import msgspec

from tidegate.codes import CloseCode, ErrorCode, LeaveReason, MessageErrorCode, RefusalReason

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
    "LeaveReason",
    "LoginRefused",
    "MappingFailed",
    "MessageError",
    "MessageErrorCode",
    "MissingExtra",
    "NoCredentials",
    "NothingToReload",
    "PositionError",
    "Problem",
    "PublishError",
    "RefusalReason",
    "ReloadUnderWay",
    "StoreError",
    "StreamClosed",
    "TidegateError",
    "TopicError",
    "UnknownName",
    "Unreachable",
    "Unstorable",
]


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
    """All problems of a configuration together, so that a user can fix them in one go."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class TopicError(TidegateError, ValueError):
    """Text that is not a valid event type or pattern. The message says what was expected and what came."""


class PositionError(TidegateError, ValueError):
    """Text that is not a position of the form ``EPOCH:SEQ``."""


class MessageError(TidegateError):
    """A client's message that is answered with ``error``; the connection stays open."""

    def __init__(self, code: MessageErrorCode, message: str, *, retryable: bool = False) -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(message)


class AccessRefused(TidegateError):
    """A request that is refused. `status` is the HTTP status of the response.

    `reason` is its label in the metrics, None if it is not counted. `retry_after_s` is set if a retry then can help.
    """

    def __init__(
        self, status: int, message: str, *, reason: RefusalReason | None = None, retry_after_s: int | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(message)


class PublishError(TidegateError):
    """An event that may not be published. `status` is the HTTP status (400, 403, 413, 415, 429 or 507).

    `retry_after_s` is set if the same event could be published after that many seconds.
    """

    def __init__(self, message: str, *, status: int, retry_after_s: int | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(message)


class UnknownName(TidegateError, LookupError):
    """A name that is not configured. The message lists the names that are."""


class StoreError(TidegateError):
    """The state directory cannot be used: another process holds it, or it cannot be read or written."""


class Unstorable(StoreError):
    """One of the values cannot be stored, and a retry would not help. Nothing was written."""


class ReloadUnderWay(TidegateError):
    """The configuration is being reloaded already. Try again when that has ended."""


class NothingToReload(TidegateError):
    """The gateway was started without a file, so there is nothing to read again."""

    def __init__(
        self, message: str = "expected a gateway that was started with --config: there is no file to read again"
    ) -> None:
        super().__init__(message)


class MissingExtra(TidegateError, ImportError):
    """A part of Tidegate whose packages are not installed. The message has the command that installs them."""


class Unreachable(TidegateError):
    """No gateway answers at the address that a client was given."""


class StreamClosed(TidegateError):
    """The gateway closed a client's stream for good: reconnecting would not help. `code` is the close code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class BusError(TidegateError):
    """The bus did not confirm that events were published."""


class BusRefused(BusError):
    """The events were certainly not published, and will not be."""


class BusUnknown(BusError):
    """The events may have been published, or may be later. Publish the same events again with the same id."""


class BackendError(TidegateError):
    """A call without a usable answer. `code` is the error code that subscribers see.

    `retry_after_s` is for how many seconds the backend asks not to be called; None if it does not ask.
    """

    code: ErrorCode
    retry_after_s: float | None = None


class Disconnected(BackendError):
    """The connection failed: refused, reset, DNS, TLS, or ended in mid-body."""

    code = ErrorCode.RPC_DISCONNECT


class DeadlineExceeded(BackendError):
    """No complete answer came within the timeout of the call."""

    code = ErrorCode.RPC_TIMEOUT


class HttpStatus(BackendError):
    """An HTTP status that is not a success. `retry_after_s` is respected only for status 429 and 503.

    `location` is where a redirect leads, without secrets, if the answer says so.
    """

    def __init__(
        self, status: int, message: str, *, retry_after_s: float | None = None, location: str | None = None
    ) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        self.location = location
        self.code = ErrorCode.RPC_AUTH if status in {401, 403, 407} else ErrorCode.RPC_HTTP_STATUS
        super().__init__(message)


class NoCredentials(BackendError):
    """Our secret for the backend cannot be read. Nothing was sent, so this is not a failure of the backend."""

    code = ErrorCode.RPC_AUTH


class LoginRefused(BackendError):
    """The backend refused our login, or refused a call right after a login that it took.

    It answered, so this is not a failure of the backend. An HTTP status 401 or 403 without a login is `HttpStatus`.
    """

    code = ErrorCode.RPC_AUTH


class InvalidResponse(BackendError):
    """An answer that is not JSON, has the wrong id or shape, is too large, or is nested too deep."""

    code = ErrorCode.RPC_INVALID_RESPONSE


class MappingFailed(BackendError):
    """A valid answer without the data that `select`, `items` and `key` name, or with more data than `event_bytes`.

    The configuration does not match the answer. This is not a failure of the backend.
    """

    code = ErrorCode.RPC_INVALID_RESPONSE


class ApplicationError(BackendError):
    """A JSON-RPC error object. `rpc_code` is its ``code``; None if that is not an integer.

    `status` is set if it came with an HTTP status that is no success; `retry_after_s` if it did with 429 or 503.
    """

    code = ErrorCode.RPC_APPLICATION_ERROR
    status: int | None = None

    def __init__(self, rpc_code: int | None, message: str, *, retry_after_s: float | None = None) -> None:
        self.rpc_code, self.retry_after_s = rpc_code, retry_after_s
        super().__init__(message if rpc_code is None else f"{message} ({rpc_code})")
