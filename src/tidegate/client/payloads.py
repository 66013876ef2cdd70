"""The data of the messages that a client acts on. Only the fields that it reads are listed."""

import msgspec


class WelcomeData(msgspec.Struct):
    """The data of a `welcome`."""

    client_id: str
    server: str
    resumed: bool
    subscriptions: tuple[str, ...]
    heartbeat_interval_s: float


class GapData(msgspec.Struct):
    """The data of a `gap`."""

    reason: str
    requested: str | None
    skipped: dict[str, int]


class ErrorData(msgspec.Struct):
    """The data of an `error`."""

    code: str
    message: str


class ConnectionErrorData(msgspec.Struct):
    """The data of a `connection_error`."""

    message: str


class NotificationData(msgspec.Struct):
    """The data of a `notification`."""

    message: str
    retry_after_ms: float = 0
