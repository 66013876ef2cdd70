"""Looks up the addresses of a backend's name with the system's resolver."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Sequence

from aiohappyeyeballs import AddrInfoType

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
    loop, host, _ = key
    waiting = _under_way[key] = loop.create_future()
    thread = threading.Thread(target=_look_up, args=key, name=f"look up {host}", daemon=True)
    try:
        thread.start()
    except RuntimeError as exc:
        del _under_way[key]
        raise OSError(errno.EAGAIN, "no thread to look a name up") from exc
    return waiting


def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
    found: _Found | Exception
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # a part of the name that is too long, or empty
        found = socket.gaierror(socket.EAI_NONAME, "no host name")
    except socket.gaierror as exc:
        found = _lack() or exc
    except Exception as exc:  # noqa: BLE001 - passed on to the waiting tasks
        found = exc
    waiting = _under_way.pop((loop, host, port))
    with contextlib.suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(_settle, waiting, found)


def _lack() -> OSError | None:
    """Return the error if this process can open nothing: a resolver that can read no file says that no name exists."""
    try:
        socket.socket().close()
    except OSError as exc:
        return exc
    return None


def _settle(waiting: asyncio.Future[_Found], found: _Found | Exception) -> None:
    if isinstance(found, Exception):
        waiting.set_exception(found)
        waiting.exception()  # marks it as retrieved: all waiting tasks may have been cancelled
    else:
        waiting.set_result(found)
