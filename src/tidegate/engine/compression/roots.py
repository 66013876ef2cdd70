"""The folders in which jobs may read and write. Paths are opened so that they cannot lead out of these folders.

A path is resolved once, when the job is submitted; the result contains no links. Later it is opened step by step from
its root without following links, like ``RESOLVE_BENEATH`` of openat2(2). So replacing a folder by a link in between
does not help an attacker.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote_to_bytes

from tidegate.engine.compression.refusals import Code, Refused, shown

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_URI = re.compile(r"file:(?://(?:localhost)?)?(/(?!/).*)", re.DOTALL)


class Roots:
    """The allowed folders. Without any, every path is refused."""

    def __init__(self, folders: Iterable[bytes | str | Path]) -> None:
        self.folders = tuple(dict.fromkeys(os.path.realpath(os.fsencode(folder)) for folder in folders))

    def resolve(self, path: bytes) -> bytes:
        """Return `path` without links and dots. It need not exist.

        Raises `Refused` unless it is absolute and inside an allowed folder.
        """
        if not path.startswith(b"/") or b"\0" in path:
            raise Refused(Code.NOT_ALLOWED, f"expected an absolute path, got {shown(path)!r}")
        resolved = os.path.realpath(path)
        self._root_of(resolved)
        return resolved

    def open(self, path: bytes, flags: int) -> int:
        """Open the resolved `path` and return a descriptor. Raises `OSError`, also if there is a link on the way."""
        root = self._root_of(path)
        *folders, name = os.path.relpath(path, root).split(b"/")
        at = os.open(root, _FOLDER)
        try:
            for folder in folders:
                at, above = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=at), at
                os.close(above)
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        finally:
            os.close(at)

    def _root_of(self, path: bytes) -> bytes:
        for folder in self.folders:
            if path == folder or path.startswith(folder.rstrip(b"/") + b"/"):
                return folder
        allowed = ", ".join(map(shown, self.folders)) or "none, see --allow-root"
        raise Refused(Code.NOT_ALLOWED, f"expected a path within the allowed folders ({allowed}), got {shown(path)}")


def path_from_text(text: str) -> bytes:
    """Return the path in `text`, encoded as UTF-8. A ``file:`` URI (RFC 8089) can name any bytes."""
    uri = _FILE_URI.fullmatch(text)
    return text.encode() if uri is None else unquote_to_bytes(uri[1])
