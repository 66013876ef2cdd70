"""A listening socket that can refuse connections and later accept them again, on the same port."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

BACKLOG: Final = 1024
ACCEPT_PAUSE_S: Final = 0.5
"""How long to pause accepting after the process ran out of file descriptors, instead of retrying in a busy loop."""


class Listener:
    """Owns one port from `bind` to `close`. While it does not listen, the system assigns the port to nobody else."""

    __slots__ = ("_accepted", "_loop", "_socket", "address", "listening")

    def __init__(self, bound: socket.socket, *, accepted: Callable[[socket.socket], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = bound
        self._accepted = accepted
        self.address: Any = bound.getsockname()
        self.listening = False

    @classmethod
    async def bind(cls, address: tuple[str, int], *, accepted: Callable[[socket.socket], None]) -> "Listener":
        """Bind the port. Connections are refused until `start`. Raises `OSError`."""
        found = await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_STREAM)
        return cls(_bound(found[0][4]), accepted=accepted)

    def start(self) -> None:
        """Accept connections."""
        self._socket.listen(BACKLOG)
        self._loop.add_reader(self._socket, self._accept)
        self.listening = True

    def stop(self) -> None:
        """Close the listening socket, so that connections are refused and those not yet accepted are reset."""
        self.close()
        self._socket = _bound(self.address)

    def close(self) -> None:
        """Release the port."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self.listening = False

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._pause()
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accepted(accepted)

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.call_later(ACCEPT_PAUSE_S, self._resume, self._socket)

    def _resume(self, paused: socket.socket) -> None:
        if paused is self._socket and self.listening:
            self._loop.add_reader(paused, self._accept)


def _bound(address: Any) -> socket.socket:
    """Return a socket that is bound to `address` and does not listen. Raises `OSError`."""
    bound = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
