"""How a stream behaves."""

import msgspec

from tidegate.backoff import Backoff


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream behaves. Durations are in seconds.

    `ping_timeout_s`: how long a server that fell silent may take to answer a ping. `max_message_bytes`: a longer
    message of the server ends the stream for good.
    """

    backoff: Backoff = Backoff()
    open_timeout_s: float = 10.0
    ping_timeout_s: float = 10.0
    close_timeout_s: float = 2.0
    max_message_bytes: int = 16 * 1024 * 1024
