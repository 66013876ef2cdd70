"""The same bytes to many sockets, past their transports: `send_to_all` implements `tidegate.core.hub.Multicast`.

A socket that is full takes nothing, and so does one that is broken or closed: its transport will find out which.

It is in C: per socket a loop in Python costs as much as writing to a transport, and a loop in C nothing beside the
kernel's part. Where the installation found no C compiler, it is the loop in Python.
"""

import os
from collections.abc import Sequence

__all__ = ["IS_COMPILED", "send_one_by_one", "send_to_all"]


def send_one_by_one(sockets: Sequence[int], data: bytes, /) -> list[tuple[int, int]]:
    """`send_to_all` in Python."""
    left = []
    for place, socket in enumerate(sockets):
        try:
            taken = os.write(socket, data)
        except OSError:
            taken = 0
        if taken < len(data):
            left.append((place, taken))
    return left


try:
    from tidegate.inbound._multicast import send_to_all
except ImportError:
    send_to_all = send_one_by_one

IS_COMPILED = send_to_all is not send_one_by_one
