"""Reads files that hold one token, either of a client or of ours for another service.

Callers turn the errors into their own messages, which name the setting or the call that failed. Reading may block on
the disk.
"""

import re
from pathlib import Path

from tidegate import files

TOKEN_BYTES = 16_384
"""Limit on a token file. A longer token would not fit into the request head that common HTTP servers accept."""

_TOKEN = re.compile(rb"[\x21-\x7e]+")


class NoToken(ValueError):
    """A file without a valid token. `is_empty` says that it holds only white space."""

    def __init__(self, *, is_empty: bool) -> None:
        self.is_empty = is_empty
        super().__init__(f"expected printable ASCII without spaces, got {'nothing' if is_empty else 'something else'}")


def read_token(path: Path, *, limit: int = TOKEN_BYTES) -> str:
    """Return the token in the file at `path`, without surrounding white space.

    Raises `OSError` if the file cannot be read, is not a regular file or has more than `limit` bytes. Raises `NoToken`
    if its content is not a token.
    """
    content = files.read(path, limit=limit).strip()
    if not _TOKEN.fullmatch(content):
        raise NoToken(is_empty=not content)
    return content.decode()
