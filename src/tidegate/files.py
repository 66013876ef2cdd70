"""Files that others might have put in our way: small ones that are read, and our own that nobody else may read.

Nothing here waits for a pipe or a device, follows a link where it writes, or reads without a bound. Imports nothing of
the package. All of it may block for as long as a disk does.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

OURS_ALONE = 0o600

PEM_BYTES = 16_777_216
"""No file of certificates is longer."""

DATABASE_COMPANIONS = ("", "-wal", "-shm", "-journal")
"""What SQLite appends to the name of a database for the files that belong to it."""

_OTHERS_MAY_USE = stat.S_IROTH | stat.S_IWOTH


def read(path: Path, *, limit: int) -> bytes:
    """What the regular file at `path` holds.

    Raises `OSError`, also for what is no regular file and for one of more than `limit` bytes; its ``strerror`` says so.
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


def is_exposed(path: Path) -> bool:
    """Whether users beside the owner and the group may read or change the file at `path`.

    A directory above it that keeps others out protects it. What cannot be looked at is not exposed.
    """
    try:
        real = path.resolve(strict=True)
        directories = all(directory.stat().st_mode & stat.S_IXOTH for directory in real.parents)
        return directories and bool(real.stat().st_mode & _OTHERS_MAY_USE)
    except OSError:
        return False


def make_directory(directory: Path) -> None:
    """Make `directory`, and what is missing above it, for this user alone. One that is there stays as it is.

    Raises `OSError`.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))


def open_private(path: Path, *, create: bool = True) -> int:
    """A descriptor of the regular file at `path`, for reading and writing, which only its owner may do from then on.

    Raises `OSError`: a link is not followed, and a file of another user is not taken.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | (os.O_CREAT if create else 0), OURS_ALONE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a symbolic link, which is not followed", str(path)) from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        _require_regular(path, mode)
        if stat.S_IMODE(mode) != OURS_ALONE:
            os.fchmod(descriptor, OURS_ALONE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_database_private(path: Path) -> None:
    """Before SQLite opens the database at `path`: only this user may read it, what belongs to it and copies of it.

    SQLite follows links, and gives the files that it makes beside a database the mode of that. No connection of this
    process may be open yet: closing a file would end its locks. Raises `OSError`.
    """
    own = [path.with_name(path.name + suffix) for suffix in DATABASE_COMPANIONS]
    for each in own:
        with contextlib.suppress(FileNotFoundError):
            os.close(open_private(each, create=each == path))
    for each in path.parent.glob(f"{path.name}*"):
        if each not in own:
            with contextlib.suppress(OSError):  # whatever it is, nobody opens it
                os.close(open_private(each, create=False))


def database_obstacle(path: Path) -> str | None:
    """Why `make_database_private` would refuse what lies at `path` now, without changing it; None if it would not."""
    for suffix in DATABASE_COMPANIONS:
        each = path.with_name(path.name + suffix)
        try:
            mode = each.lstat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            return f"{each.name}, which is {_kind(mode)}"
    return None


def _opened(path: Path) -> int:
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
        raise OSError(errno.EINVAL, f"{_kind(mode)}, no regular file", str(path))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFDIR: "a directory",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
