"""Looks up the addresses of a backend's name with the system's resolver."""

import asyncio
import socket
from collections.abc import Sequence

from aiohappyeyeballs import AddrInfoType

from tidegate.outbound.http_client.own_thread import fulfil, start

_Key = tuple[asyncio.AbstractEventLoop, str, int]
_Found = Sequence[AddrInfoType]
_under_way: dict[_Key, asyncio.Future[_Found]] = {}


async def looked_up(host: str, port: int) -> _Found:
    """Look up the addresses of `host`. Raises `OSError`, usually `socket.gaierror`.

    If a resolver does not answer, the system call takes half a minute and cannot be cancelled. The event loop has few
    threads for look-ups (four with uvloop), so a few such names would block the look-up of every other name, even
    ``localhost``, and the end of the process. Therefore each name gets its own daemon thread. Concurrent look-ups of
    the same name share one thread. Cancelling returns at once; the thread ends by itself.
    """
    key = (asyncio.get_running_loop(), host, port)
    waiting = _under_way.get(key)
    return await asyncio.shield(_begin(key) if waiting is None else waiting)


def _begin(key: _Key) -> asyncio.Future[_Found]:
    loop, host, port = key
    waiting: asyncio.Future[_Found] = loop.create_future()

    def look_up() -> _Found:
        try:
            return _resolved(host, port)
        finally:
            del _under_way[key]  # before anybody hears of the result: the next look-up is another one

    _under_way[key] = waiting
    try:
        start(lambda: fulfil(waiting, look_up), name=f"look up {host}")
    except OSError:
        del _under_way[key]
        raise
    return waiting


def _resolved(host: str, port: int) -> _Found:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as exc:  # a part of the name that is too long, or empty
        raise socket.gaierror(socket.EAI_NONAME, "no host name") from exc
    except socket.gaierror as exc:
        raise _lack() or exc from None


def _lack() -> OSError | None:
    """Return the error if this process can open nothing: a resolver that can read no file says that no name exists."""
    try:
        socket.socket().close()
    except OSError as exc:
        return exc
    return None
