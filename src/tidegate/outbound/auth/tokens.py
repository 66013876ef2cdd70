"""Authentication with a list of tokens, and no authentication."""

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidegate.core.access.grant import UNRESTRICTED, Grant
from tidegate.core.masking import Masked
from tidegate.errors import ConfigError, MessageError, MessageErrorCode, Problem
from tidegate.outbound.auth import files
from tidegate.runtime.limited_log import Observe
from tidegate.secret import MASK
from tidegate.token_file import NoToken, read_token


class OpenAuthenticator:
    """Grants everything to everyone. For a gateway that only listens on loopback."""

    def verify(self, token: str) -> Grant:
        del token
        return UNRESTRICTED

    async def run(self) -> None:
        """Do nothing, until cancelled."""
        await asyncio.Event().wait()


class TokenFile(msgspec.Struct, frozen=True):
    """The path of a file with one token, and the setting that contains this path."""

    path: Path
    setting: str


class KnownToken(Masked, frozen=True):
    """A token, or the file that contains it, and what its bearer may do."""

    token: str | TokenFile
    grant: Grant

    def public(self) -> dict[str, object]:
        return super().public() | ({"token": MASK} if isinstance(self.token, str) else {})


class TokenAuthenticator:
    """Accepts the listed `tokens`. Raises `ConfigError` if a file cannot be used.

    Each check compares the digest of the received token with the digests of all listed tokens, in constant time. So
    the time that it takes does not reveal which token nearly matched, or how long one is.
    """

    def __init__(self, tokens: Sequence[KnownToken], *, observe: Observe = lambda _: None) -> None:
        self.revision = 0
        """See `tidegate.ports.Revised`."""
        self._tokens = tokens
        self._observe = observe
        self._grants = self._load()

    def verify(self, token: str) -> Grant:
        """See `tidegate.ports.Authenticator`."""
        if not token:
            raise MessageError(MessageErrorCode.UNAUTHENTICATED, "expected a token, got none")
        digest = _digest(token)
        found = None
        for known, grant in self._grants:
            if hmac.compare_digest(known, digest):
                found = grant
        if found is None:
            raise MessageError(MessageErrorCode.UNAUTHENTICATED, "expected a token that is known, got another one")
        return found

    async def run(self) -> None:
        """Reread the files periodically, until cancelled. A new token in a file replaces the old one."""
        await files.keep_reading(self._load, self._keep, observe=self._observe)

    def _load(self) -> list[tuple[bytes, Grant]]:
        grants: list[tuple[bytes, Grant]] = []
        problems: list[Problem] = []
        for known in self._tokens:
            try:
                grants.append((_digest(token_text(known.token)), known.grant))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return grants

    def _keep(self, grants: list[tuple[bytes, Grant]]) -> None:
        if grants != self._grants:
            files.log.info("tokens have changed", count=len(grants))
            self._grants = grants
            self.revision += 1


def token_text(token: str | TokenFile) -> str:
    """Return the token as text. Reads its file if it is in one; raises `ConfigError` if that contains no token."""
    if isinstance(token, str):
        return token
    expected = "a file with one token, printable ASCII without spaces"
    try:
        return read_token(token.path, limit=files.FILE_BYTES)
    except OSError as error:
        got = f"{token.path} ({error.strerror})"
        raise ConfigError([Problem(token.setting, expected, got)]) from error
    except NoToken as error:
        got = f"{token.path} with {'nothing' if error.is_empty else 'something else'}"
        raise ConfigError([Problem(token.setting, expected, got)]) from error


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
