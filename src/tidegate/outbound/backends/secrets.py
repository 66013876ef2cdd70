"""Reads the secrets of one backend, from files and from the environment, anew for each exchange.

Knows nothing of what they are for. A message about a secret names its setting, and never repeats its content.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidegate import files
from tidegate.errors import NoCredentials, Problem
from tidegate.outbound.http_client import OwnThread
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


class SecretReader:
    """Reads the secrets at `places`, by name, for use in one event loop. Nothing needs to be closed.

    Files are read in a thread of their own, because they may be on a server that is gone.
    """

    def __init__(self, places: Mapping[str, SecretPlace], *, environ: Mapping[str, str] = os.environ) -> None:
        self._places = dict(places)
        self._environ = environ
        named = ", ".join(str(place.file) for place in places.values() if place.file is not None)
        self._reading = OwnThread(self._read, name=f"read {named}") if named else None

    async def read(self) -> Mapping[str, Secret]:
        """Return all secrets by name. Raises `NoCredentials` if one is missing or unusable.

        Cancelling returns at once.
        """
        try:
            return self._read() if self._reading is None else await self._reading.run()
        except OSError as exc:  # there can be no more threads
            raise NoCredentials(f"expected to read the secrets of the backend, got {exc.strerror}") from exc

    def _read(self) -> Mapping[str, Secret]:
        found = {}
        for name, place in self._places.items():
            secret = read(place, self._environ)
            if isinstance(secret, Problem):
                raise NoCredentials(str(secret))
            found[name] = secret
        return found


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
