"""The addresses of a backend's name, as the system's resolver tells them."""

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
    """The addresses of `host`. Raises `OSError`, as a rule `socket.gaierror`.

    A resolver that does not answer takes half a minute to say so, and cannot be told that nobody waits any more. The
    loop has few threads for this, four with uvloop, so that a few such names would keep every other name, ``localhost``
    among them, from being looked up, and the process from ending. So each name that is asked for has a thread of its
    own, one at a time: who asks meanwhile waits for the same answer. Nothing waits for it at the end.
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
    except Exception as exc:  # noqa: BLE001 - it is for whoever waits
        found = exc
    waiting = _under_way.pop((loop, host, port))
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_tell, waiting, found)


def _tell(waiting: asyncio.Future[_Found], found: _Found | Exception) -> None:
    if isinstance(found, Exception):
        waiting.set_exception(found)
        waiting.exception()  # perhaps nobody waits any more
    else:
        waiting.set_result(found)
