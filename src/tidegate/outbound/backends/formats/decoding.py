"""Turns the bytes of an answer into text, whole or line by line.

The text is in the charset that ``Content-Type`` names, or else in UTF-8. A byte order mark is left out.
"""

import codecs
import io
import re
from collections.abc import Iterator

from tidegate.errors import InvalidResponse

_CHARSET = re.compile(r';[ \t]*charset[ \t]*=[ \t]*"?([^\s;",]+)', re.IGNORECASE)
_READ = re.compile(
    r"utf-8(?:-sig)?|utf-(?:16|32)(?:-[bl]e)?|ascii|iso8859-[0-9]+|cp[0-9]+|koi8-[rtu]|mac-[a-z]+|gb[0-9k]+|big5(?:hkscs)?"
    r"|euc_[a-z0-9_]+|shift_jis(?:_2004|x0213)?|johab|tis-620|ptcp154|hp-roman8"
)
"""Python's codecs that are charsets. The others encode bytes, or take a time that grows with the square."""

_BOM = "\ufeff"


def text_of(body: bytes | bytearray, content_type: str | None) -> str:
    """Return `body` as text. Raises `InvalidResponse` if it is not in its charset, or that is unknown."""
    charset = _charset(content_type)
    try:
        return body.decode(charset).removeprefix(_BOM)
    except UnicodeError as exc:
        raise InvalidResponse(_undecodable(charset, exc)) from exc


def lines_of(body: bytes | bytearray, content_type: str | None, *, most_characters: int) -> Iterator[str]:
    """Yield the lines of `body` with their ends. A longer one than `most_characters` comes in pieces.

    `body` is decoded piece by piece: as one text, it could take four times its size. Raises `InvalidResponse` as
    `text_of` does.
    """
    charset = _charset(content_type)
    stream = io.TextIOWrapper(io.BytesIO(body), encoding=charset, newline="")
    is_first = True
    while True:
        try:
            line = stream.readline(most_characters)
        except UnicodeError as exc:
            raise InvalidResponse(_undecodable(charset, exc)) from exc
        if not line:
            return
        yield line.removeprefix(_BOM) if is_first else line
        is_first = False


def _charset(content_type: str | None) -> str:
    named = _CHARSET.search(content_type or "")
    if named is None:
        return "utf-8"
    try:
        charset = codecs.lookup(named[1]).name
    except (LookupError, ValueError):
        charset = ""
    if _READ.fullmatch(charset) is None:
        raise InvalidResponse(f"expected a charset that is known, such as utf-8, got {named[1][:64]!r}")
    return charset


def _undecodable(charset: str, exc: UnicodeError) -> str:
    if not isinstance(exc, UnicodeDecodeError):
        return f"expected text in {charset}, got something else ({exc})"
    got = exc.object[exc.start : exc.end][:16]
    return f"expected text in {charset}, got {got!r} ({exc.reason})"
