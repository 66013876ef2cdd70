"""Files that hold one token: what a client is known by, or what we are known by elsewhere.

Whoever asks says what is wrong in words of its own: a setting at fault, a call that cannot be made. May block for as
long as a disk does.
"""

import re
from pathlib import Path

from tidegate import files

TOKEN_BYTES = 16_384

_TOKEN = re.compile(rb"[\x21-\x7e]+")


class NoToken(ValueError):
    """A file that holds no token; `is_empty` if it holds nothing but white space."""

    def __init__(self, *, is_empty: bool) -> None:
        self.is_empty = is_empty
        super().__init__(f"expected printable ASCII without spaces, got {'nothing' if is_empty else 'something else'}")


def read_token(path: Path, *, limit: int = TOKEN_BYTES) -> str:
    """The token in the file at `path`, without the white space around it.

    Raises `OSError` if the file cannot be read, is not a regular one or has more than `limit` bytes; `NoToken`.
    """
    content = files.read(path, limit=limit).strip()
    if not _TOKEN.fullmatch(content):
        raise NoToken(is_empty=not content)
    return content.decode()
