"""The codes that go over the wire: of errors, of refused requests, of closed connections. Imports nothing."""

import enum


class ErrorCode(enum.StrEnum):
    """Why an event is stale or a call failed: the field ``error_code`` of events."""

    RPC_DISCONNECT = "RPC_DISCONNECT"
    RPC_TIMEOUT = "RPC_TIMEOUT"
    RPC_HTTP_STATUS = "RPC_HTTP_STATUS"
    RPC_AUTH = "RPC_AUTH"
    RPC_INVALID_RESPONSE = "RPC_INVALID_RESPONSE"
    RPC_APPLICATION_ERROR = "RPC_APPLICATION_ERROR"
    CIRCUIT_BREAKER_OPEN = "CIRCUIT_BREAKER_OPEN"
    OVERDUE = "OVERDUE"
    RESTORED = "RESTORED"
    RELOADED = "RELOADED"
    BUS_DISCONNECTED = "BUS_DISCONNECTED"


class MessageErrorCode(enum.StrEnum):
    """What was wrong with a client's message: the field ``data.code`` of an ``error`` message."""

    INVALID_JSON = "INVALID_JSON"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    UNKNOWN_MESSAGE_TYPE = "UNKNOWN_MESSAGE_TYPE"
    INVALID_PATTERN = "INVALID_PATTERN"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    RATE_LIMITED = "RATE_LIMITED"
    FORBIDDEN = "FORBIDDEN"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class RefusalReason(enum.StrEnum):
    """Why a request was refused: the label `reason` of ``tidegate_refusals_total``."""

    HOST = "host"
    ORIGIN = "origin"
    NO_TOKEN = "no_token"  # noqa: S105 - the name of a reason, not a secret
    BAD_TOKEN = "bad_token"  # noqa: S105
    ROLE = "role"
    PATTERN = "pattern"
    MALFORMED = "malformed"
    """It breaks a rule that does not depend on who sends it."""
    MAX_CLIENTS = "max_clients"
    CONNECTS_RATE = "connects_rate"
    DRAINING = "draining"
    KEYS_UNAVAILABLE = "keys_unavailable"
    HEAD_TIMEOUT = "head_timeout"
    """Its head, or its body, did not come in time."""
    NO_FILE_DESCRIPTOR = "no_file_descriptor"
    TOO_LARGE = "too_large"
    """It is over a limit of size, or what would be retained with it is."""
    PUBLISHES_RATE = "publishes_rate"


class LeaveReason(enum.StrEnum):
    """Why a client left: the label `reason` of ``tidegate_clients_left_total``."""

    CLIENT_CLOSED = "client_closed"
    """It ended its stream in order: by a close frame, or by ending the request of an event stream."""
    CONNECTION_LOST = "connection_lost"
    NO_PONG = "no_pong"
    DRAINED = "drained"
    """The gateway ends, or another sequence of events has begun."""
    TOO_SLOW = "too_slow"
    RATE_LIMITED = "rate_limited"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    """Its token is not valid any more: it has expired, or was taken out of the configuration."""
    FORBIDDEN = "forbidden"
    PROTOCOL_ERROR = "protocol_error"
    TOO_LARGE = "too_large"
    """It sent a message over the limit."""
    ERROR = "error"
    """Our own code failed."""


class CloseCode(enum.IntEnum):
    """The WebSocket close codes that the gateway chooses. Codes for protocol errors (RFC 6455) are not listed here."""

    NORMAL = 1000
    GOING_AWAY = 1001
    INTERNAL_ERROR = 1011
    DRAINING = 1012
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    TOO_SLOW = 4408
    TOO_MANY_MESSAGES = 4429


LEAVE_REASONS = {
    CloseCode.GOING_AWAY: LeaveReason.DRAINED,
    CloseCode.DRAINING: LeaveReason.DRAINED,
    CloseCode.UNAUTHENTICATED: LeaveReason.TOKEN_EXPIRED,
    CloseCode.FORBIDDEN: LeaveReason.FORBIDDEN,
    CloseCode.TOO_SLOW: LeaveReason.TOO_SLOW,
    CloseCode.TOO_MANY_MESSAGES: LeaveReason.RATE_LIMITED,
    CloseCode.INTERNAL_ERROR: LeaveReason.ERROR,
}
"""Why a client leaves that the gateway closes with one of these codes."""
