"""`Refused`, the one error of the engine, with a code: for refused calls and for failed jobs."""

import enum
import errno
import re

from tidegate.errors import TidegateError


class Code(enum.StrEnum):
    """What went wrong: ``data.code`` of a refused call, ``error.code`` of a failed job."""

    UNKNOWN_JOB = "UNKNOWN_JOB"
    QUEUE_FULL = "QUEUE_FULL"
    NOT_ALLOWED = "NOT_ALLOWED"
    NOT_FOUND = "NOT_FOUND"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    DESTINATION_EXISTS = "DESTINATION_EXISTS"
    UNREADABLE = "UNREADABLE"
    SOURCE_CHANGED = "SOURCE_CHANGED"
    DISK_FULL = "DISK_FULL"
    IO_ERROR = "IO_ERROR"
    NOT_VERIFIED = "NOT_VERIFIED"
    AGENT_LOST = "AGENT_LOST"
    INTERNAL = "INTERNAL"


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

MESSAGE_CHARACTERS = 2000
"""Limit on a message. The middle of a longer one is cut out; it may contain paths of any length."""


class Refused(TidegateError):
    """A call is refused, or a job failed. The message says what was expected and what came."""

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        half = MESSAGE_CHARACTERS // 2
        super().__init__(message if len(message) <= 2 * half else f"{message[:half]}…{message[-half:]}")


def shown(path: bytes | str) -> str:
    """Return a path as text. Control characters and bytes that are not UTF-8 become ``\\xNN``."""
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", raw.decode("utf-8", "backslashreplace"))


def of_reading(error: OSError, path: bytes | str) -> Refused:
    """Turn an error of reading `path` into a `Refused`."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return Refused(Code.UNREADABLE, f"{shown(path)} cannot be read: {error.strerror}")
        case errno.ENOENT | errno.ENOTDIR | errno.ELOOP:
            return Refused(Code.SOURCE_CHANGED, f"{shown(path)} vanished or was replaced while it was read")
    return Refused(Code.IO_ERROR, f"{shown(path)} cannot be read: {error.strerror}")


def of_writing(error: OSError, path: bytes | str) -> Refused:
    """Turn an error of writing `path` into a `Refused`."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return Refused(Code.DISK_FULL, f"no room for {shown(path)}: {error.strerror}")
        case errno.EEXIST:
            return Refused(Code.DESTINATION_EXISTS, f"expected a new name, but {shown(path)} already exists")
    return Refused(Code.IO_ERROR, f"{shown(path)} cannot be written: {error.strerror}")
