"""The places where the configuration says that a secret is, and how it is read from there.

Callers turn what is wrong into their own errors. A message about a secret names its setting, and never repeats its
content. Reading may block on the disk.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidegate import files
from tidegate.errors import Problem
from tidegate.printable import steers
from tidegate.secret import Secret
from tidegate.token_file import TOKEN_BYTES


class SecretPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a secret is: in a `file`, or in a `variable` of the environment. `setting` is the key that says so.

    A bearer token is only a secret with a narrower format (`is_token`): printable ASCII without spaces.
    """

    setting: str
    file: Path | None = None
    variable: str | None = None
    is_token: bool = False

    @property
    def expected(self) -> str:
        """What has to be there, in words."""
        where = f"the environment variable {self.variable}" if self.file is None else str(self.file)
        if self.is_token:
            return f"a bearer token in {where}: one line of at most {TOKEN_BYTES} printable ASCII characters"
        return f"a secret in {where}: one line of printable text, at most {TOKEN_BYTES} bytes in UTF-8"


def read(place: SecretPlace, environ: Mapping[str, str] = os.environ) -> Secret | Problem:
    """Return the secret at `place`, or what is wrong with it. May block on the disk.

    The end of the last line does not belong to it; spaces do, except for a token.
    """
    try:
        return Secret(_text(place, environ))
    except OSError as exc:
        got = exc.strerror or "a file that cannot be read"
    except _Unusable as exc:
        got = str(exc)
    return Problem(place.setting, place.expected, got)


class _Unusable(ValueError):
    """The content is not a secret. The message says what it is instead."""


def _text(place: SecretPlace, environ: Mapping[str, str]) -> str:
    content = _content(place, environ)
    text = _decoded(content.strip() if place.is_token else content.removesuffix(b"\n").removesuffix(b"\r"))
    if not text:
        raise _Unusable("an empty variable" if place.file is None else "an empty file")
    if "\n" in text or "\r" in text:
        raise _Unusable("several lines")
    if any(map(steers, text)):
        raise _Unusable("a control character in it")
    if place.is_token and not (text.isascii() and " " not in text):
        raise _Unusable("a space in it" if text.isascii() else "text that is not ASCII")
    return text


def _content(place: SecretPlace, environ: Mapping[str, str]) -> bytes:
    if place.file is not None:
        return files.read(place.file, limit=TOKEN_BYTES)
    text = environ.get(place.variable or "")
    if text is None:
        raise _Unusable("no such variable")
    content = os.fsencode(text)
    if len(content) > TOKEN_BYTES:
        raise _Unusable("more")
    return content


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass  # and out of the handler: that error has the content in it
    raise _Unusable("text that is not UTF-8")
