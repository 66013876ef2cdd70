"""Safe access to files: bounded reads of files that others may have placed, and files that only this user may read.

No function here blocks on a pipe or a device, follows a link to write, or reads without a limit. All of them do disk
I/O and may block. Imports nothing of the package.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

OWNER_ONLY = 0o600

PEM_BYTES = 16_777_216
"""Limit on a file of certificates: 16 MiB, far more than a system's whole bundle."""

DATABASE_COMPANIONS = ("", "-wal", "-shm", "-journal")
"""What SQLite appends to the name of a database for the files that belong to it."""

Mark = tuple[int, int, int]
"""Changes with the content of a file, which it does not contain. See `mark`."""

_OTHERS_MAY_USE = stat.S_IROTH | stat.S_IWOTH


def read(path: Path, *, limit: int) -> bytes:
    """Return the content of the regular file at `path`.

    Raises `OSError`, also if `path` is not a regular file or has more than `limit` bytes; its ``strerror`` says so.
    """
    with open(_opened(path), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _too_large(path, limit)
    return content


def check(path: Path, *, limit: int = PEM_BYTES) -> None:
    """Raise `OSError` unless a regular file of at most `limit` bytes can be read at `path`.

    For files that a library opens itself, such as certificates.
    """
    descriptor = _opened(path)
    try:
        if os.fstat(descriptor).st_size > limit:
            raise _too_large(path, limit)
    finally:
        os.close(descriptor)


def mark(path: Path) -> Mark:
    """Return a value that changes with the content of the file at `path`; there is one also for a file that is not."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def size_bytes(path: Path) -> int:
    """Return the size of a file; 0 if there is none, or if it cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def is_exposed(path: Path) -> bool:
    """Return whether users other than the owner and the group may read or change the file at `path`.

    The file is protected if others may not enter one of the directories above it. The answer is False if the file
    cannot be inspected.
    """
    try:
        real = path.resolve(strict=True)
        directories = all(directory.stat().st_mode & stat.S_IXOTH for directory in real.parents)
        return directories and bool(real.stat().st_mode & _OTHERS_MAY_USE)
    except OSError:
        return False


def make_directory(directory: Path) -> None:
    """Make `directory` and its missing parents, for this user only. Existing directories are not changed.

    Raises `OSError`.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))


def open_private(path: Path, *, create: bool = True) -> int:
    """Open the regular file at `path` for reading and writing, and allow only its owner to use it. Return a descriptor.

    Raises `OSError`, also for a symbolic link and for a file of another user.
    """
    # O_NONBLOCK: opening a named pipe must not wait for its other end.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | (os.O_CREAT if create else 0), OWNER_ONLY)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a symbolic link, which is not followed", str(path)) from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        _require_regular(path, mode)
        if stat.S_IMODE(mode) != OWNER_ONLY:
            os.fchmod(descriptor, OWNER_ONLY)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError) and error.filename is None:  # a call with a descriptor does not name the file
            error.filename = str(path)
        raise
    return descriptor


def make_database_private(path: Path) -> None:
    """Make the database at `path`, its companions and copies of it private to this user. Raises `OSError`.

    Call this before SQLite opens the database. SQLite itself follows links, and gives its companion files the mode of
    the database. No connection of this process may be open: closing any descriptor of the file would release SQLite's
    locks on it (POSIX record locks).
    """
    own = [path.with_name(path.name + suffix) for suffix in DATABASE_COMPANIONS]
    for each in own:
        with contextlib.suppress(FileNotFoundError):
            os.close(open_private(each, create=each == path))
    for each in path.parent.glob(f"{path.name}*"):
        if each not in own:
            with contextlib.suppress(OSError):  # it may be a directory or a link; nothing of ours opens it
                os.close(open_private(each, create=False))


def database_obstacle(path: Path) -> str | None:
    """Return why `make_database_private` would refuse `path`, or None if it would not. Changes nothing."""
    for suffix in DATABASE_COMPANIONS:
        each = path.with_name(path.name + suffix)
        try:
            found = each.lstat()
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            return f"{each.name}, which is {_kind(found.st_mode)}"
        if os.geteuid() not in {0, found.st_uid}:
            return f"{each.name}, which belongs to another user"
        if not os.access(each, os.R_OK | os.W_OK):
            return f"{each.name}, which cannot be read and written"
    return None


def _opened(path: Path) -> int:
    # The type is checked after opening, on the descriptor: the file could be replaced between a check and the opening.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _too_large(path: Path, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"more than {limit} bytes", str(path))


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{_kind(mode)}, not a regular file", str(path))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFDIR: "a directory",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
