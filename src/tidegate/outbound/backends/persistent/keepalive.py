"""Notices that the other side of a quiet connection is gone: the kernel asks its machine, and a ping asks its program.

Without that, a connection on which nothing is called for an hour could be taken for one that tells of every change.
Proxies close quiet connections too.
"""

import asyncio
import socket
from collections.abc import Callable

ALIVE_S = 20
"""After how many seconds in which nothing came the other side is asked, and how long it then has to answer."""

_UNANSWERED = 3
"""So many questions of the kernel, one every `ALIVE_S`, go unanswered before the connection is lost."""


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel ask. A Unix socket needs none: both ends are in one kernel."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {"TCP_KEEPIDLE": ALIVE_S, "TCP_KEEPINTVL": ALIVE_S, "TCP_KEEPCNT": _UNANSWERED}
    for option, value in wanted.items():  # Linux has them all, others have not
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class Pings:
    """The pings of one connection. `gone` is called once, if a ping is not answered within `ALIVE_S`.

    `ping` sends one, and returns whether there is such a thing. While a call is under way (not `is_idle`), its deadline
    is enough: a server may be too busy for a ping.
    """

    def __init__(self, *, ping: Callable[[], bool], is_idle: Callable[[], bool], gone: Callable[[], None]) -> None:
        self._ping = ping
        self._is_idle = is_idle
        self._gone = gone
        self._is_quiet = True
        self._is_asked = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(ALIVE_S, self._look)

    def heard(self) -> None:
        """Something came. Whatever it is, the other side is there."""
        self._is_quiet = False

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._is_quiet and self._is_asked and self._is_idle():
            self._gone()
            return
        self._is_asked = self._is_quiet and self._ping()
        self._is_quiet = True
        self.start()
