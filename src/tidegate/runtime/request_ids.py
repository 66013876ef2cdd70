"""The id of a request, by which it is found in the log: made here, or taken over from whoever asks.

Ids are no secrets. They are random so that those of several gateways differ.
"""

import random
import re
from collections.abc import Callable

FIELD = "X-Request-ID"
"""The header field that has the id, in requests and answers."""

_TAKEN_OVER = re.compile(rb"[A-Za-z0-9._-]{1,64}")

RequestId = Callable[[str, bytes | None], str]
"""Returns the id of a request, from the IP address of its peer and the value of `FIELD`; None if it has none."""

_bits = random.Random().getrandbits


def new_id() -> str:
    """Make an id of 16 hexadecimal digits."""
    return f"{_bits(64):016x}"


def taken_over(sent: bytes | None) -> str | None:
    """Return the id that was `sent` as the value of `FIELD`; None if there is none that may be taken over."""
    return sent.decode() if sent is not None and _TAKEN_OVER.fullmatch(sent) else None
