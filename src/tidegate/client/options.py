"""The options of a stream: timeouts, limits and back-off."""

import msgspec

from tidegate.backoff import Backoff


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a stream. Durations are in seconds.

    `backoff`: the waits between attempts to connect.
    `open_timeout_s`: limit on opening a connection, and then on the wait for the first message.
    `ping_timeout_s`: how long a silent server may take to answer a ping before the connection is dropped.
    `close_timeout_s`: limit on the closing handshake.
    `max_message_bytes`: a longer message from the server ends the stream for good.
    """

    backoff: Backoff = Backoff()
    open_timeout_s: float = 10.0
    ping_timeout_s: float = 10.0
    close_timeout_s: float = 2.0
    max_message_bytes: int = 16 * 1024 * 1024
