"""A listening socket that can refuse connections, or not answer them, and later accept them again, on the same port."""

import asyncio
import contextlib
import enum
import socket
from collections.abc import Callable
from typing import Any, Final

BACKLOG: Final = 1024
ACCEPT_PAUSE_S: Final = 0.5
"""How long to pause accepting after the process ran out of file descriptors, instead of retrying in a busy loop."""


class Reception(enum.Enum):
    """What becomes of a client that connects."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    UNANSWERED = enum.auto()
    """The kernel drops the client's SYN, so the client sends it again after 1, 3, 7 … s, as its own kernel has it."""


class Listener:
    """Owns one port from `bind` to `close`. While it does not listen, the system assigns the port to nobody else."""

    __slots__ = ("_accepted", "_filler", "_loop", "_socket", "address", "reception")

    def __init__(self, bound: socket.socket, *, accepted: Callable[[socket.socket], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = bound
        self._accepted = accepted
        self._filler: socket.socket | None = None
        self.address: Any = bound.getsockname()
        self.reception = Reception.REFUSED

    @classmethod
    async def bind(cls, address: tuple[str, int], *, accepted: Callable[[socket.socket], None]) -> "Listener":
        """Bind the port. Connections are refused until `start`. Raises `OSError`."""
        found = await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_STREAM)
        return cls(_bound(found[0][4]), accepted=accepted)

    def receive(self, reception: Reception) -> None:
        """Treat clients like this from now on. If they are no longer accepted, those still waiting for it are reset."""
        if reception is self.reception:
            return
        if reception is Reception.ACCEPTED:
            self._empty_queue()
            self._socket.listen(BACKLOG)
            self._loop.add_reader(self._socket, self._accept)
        else:
            self.close()
            self._socket = _bound(self.address)
            if reception is Reception.UNANSWERED:
                self._fill_queue()
        self.reception = reception

    def close(self) -> None:
        """Release the port."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if self._filler is not None:
            self._filler.close()
            self._filler = None
        self.reception = Reception.REFUSED

    def _fill_queue(self) -> None:
        """Connect to ourselves and accept nothing. With a backlog of 0, one connection fills the kernel's queue.

        While the queue is full, Linux drops every further SYN (``tcp_abort_on_overflow`` does not change that).
        """
        self._socket.listen(0)
        self._filler = socket.socket(self._socket.family, socket.SOCK_STREAM)
        self._filler.setblocking(False)
        self._filler.connect_ex(self.address)

    def _empty_queue(self) -> None:
        if self._filler is not None:
            self._filler.close()
            self._filler = None
            with contextlib.suppress(BlockingIOError):
                self._socket.accept()[0].close()  # it is the first in the queue

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
        if paused is self._socket and self.reception is Reception.ACCEPTED:
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
