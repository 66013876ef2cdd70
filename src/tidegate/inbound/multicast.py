"""Writes the same bytes to many sockets, bypassing their transports.

`send_to_all` implements `tidegate.core.delivery.hub.Multicast`. It does not distinguish a full socket from a broken or
closed one: neither takes any bytes, and the transport detects the difference later.

It is written in C. In Python, the loop costs as much per socket as writing to a transport; in C, it costs nothing
compared with the system call. If no C compiler was found at installation, the loop in Python is used.
"""

import os
from collections.abc import Sequence

__all__ = ["IS_COMPILED", "send_one_by_one", "send_to_all"]


def send_one_by_one(sockets: Sequence[int], data: bytes, /) -> list[tuple[int, int]]:
    """The Python version of `send_to_all`.

    Returns the index of each socket that did not take all of `data`, with the number of bytes that it took.
    """
    incomplete = []
    for index, socket in enumerate(sockets):
        try:
            taken = os.write(socket, data)
        except OSError:
            taken = 0
        if taken < len(data):
            incomplete.append((index, taken))
    return incomplete


try:
    from tidegate.inbound._multicast import send_to_all
except ImportError:
    send_to_all = send_one_by_one

IS_COMPILED = send_to_all is not send_one_by_one
