"""Makes connections to Unix sockets. Says in words what is wrong with a socket, and what helps.

Knows nothing of what is spoken over a connection.
"""

import asyncio
import errno
import grp
import os
import pwd
import socket
import stat
from pathlib import Path

from tidegate.outbound.http_client.failures import Unconnected

_AGAIN_S = 0.02
"""After how many seconds to try again if the queue of the server is full. The kernel does not wait for us."""


async def connected_to_socket(path: Path) -> socket.socket:
    """Connect to the Unix socket at `path`. Raises `OSError`, usually `Unconnected`.

    While the queue of the server is full, it tries again and again, until it is cancelled. Cancelling leaves nothing
    open. The path is looked up in the event loop: sockets are on file systems of this machine.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await _connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(sock: socket.socket, path: Path) -> None:
    while True:
        try:
            sock.connect(str(path))
        except BlockingIOError:
            await asyncio.sleep(_AGAIN_S)
        except OSError as exc:
            raise Unconnected(exc.errno or errno.EIO, _words(exc, path)) from exc
        else:
            return


def _words(exc: OSError, path: Path) -> str:
    match exc.errno:
        case errno.ENOENT:
            return "there is no such file (start the service that makes this socket, or correct the path)"
        case errno.EACCES:
            return f"Permission denied ({_permission(path)})"
        case errno.EPROTOTYPE:
            return "it is a socket, but not for streams (correct the path)"
        case errno.ECONNREFUSED if (kind := _other_kind(path)) is not None:
            return f"expected a socket, got {kind} (correct the path)"
        case errno.ECONNREFUSED:
            return "Connection refused (nobody listens on this socket any more: start its service)"
    return os.strerror(exc.errno or errno.EIO)


def _permission(path: Path) -> str:
    """Say who may connect to the socket at `path`, and what helps who may not."""
    user = _user(os.geteuid())
    try:
        found = path.stat()
    except OSError:
        return f"let the user {user} enter the directories above it"
    owner, group, mode = _user(found.st_uid), _group(found.st_gid), stat.S_IMODE(found.st_mode)
    helps = f"add {user} to that group" if mode & stat.S_IWGRP else f"let {user} write to it"
    return f"it belongs to {owner} and the group {group}, mode {mode:03o}: {helps}, and start the gateway again"


def _other_kind(path: Path) -> str | None:
    """Return what is at `path` if it is not a socket, or None."""
    try:
        mode = path.stat().st_mode
    except OSError:  # gone meanwhile
        return None
    if stat.S_ISSOCK(mode):
        return None
    return "a directory" if stat.S_ISDIR(mode) else "a file that is none"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
