"""From what a plan says of authentication to the authenticator that does it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tidegate.core.masking import Masked, mask_url
from tidegate.outbound.auth.jwt import JwtAuthenticator, JwtOptions
from tidegate.outbound.auth.keys import JwksKeys, KeyFile, public_key_file, secret_file
from tidegate.outbound.auth.tokens import KnownToken, OpenAuthenticator, TokenAuthenticator
from tidegate.ports import Authenticator, Clock
from tidegate.runtime.keeping import kept_running


class OpenAccess(msgspec.Struct, frozen=True):
    """No token is asked for."""


class ListedTokens(msgspec.Struct, frozen=True):
    """One of `tokens` is asked for."""

    tokens: tuple[KnownToken, ...]


class PublicKey(msgspec.Struct, frozen=True):
    """A public key in the PEM file at `path`, which `setting` names."""

    path: Path
    setting: str


class SharedSecret(msgspec.Struct, frozen=True):
    """A secret in the file at `path`, which `setting` names."""

    path: Path
    setting: str


class PublishedKeys(Masked, frozen=True):
    """What the issuer publishes at `url`, which `setting` names."""

    url: str
    setting: str

    def public(self) -> dict[str, object]:
        return super().public() | {"url": mask_url(self.url)}


class SignedTokens(msgspec.Struct, frozen=True):
    """A token that is signed with one of `keys` is asked for."""

    keys: PublicKey | SharedSecret | PublishedKeys
    options: JwtOptions


Authentication = OpenAccess | ListedTokens | SignedTokens


@asynccontextmanager
async def opened(authentication: Authentication, clock: Clock) -> AsyncIterator[Authenticator]:
    """The authenticator; what it checks against is kept current while the context is open. Raises as `made`."""
    authenticator = made(authentication)
    async with kept_running({"access": authenticator.run}, clock):
        yield authenticator


def made(authentication: Authentication) -> OpenAuthenticator | TokenAuthenticator | JwtAuthenticator:
    """The authenticator, which keeps nothing current yet.

    Reads files; raises `ConfigError` naming the setting at fault.
    """
    match authentication:
        case OpenAccess():
            return OpenAuthenticator()
        case ListedTokens(tokens):
            return TokenAuthenticator(tokens)
        case SignedTokens(keys, options):
            return JwtAuthenticator(_keys(keys), options)


def _keys(source: PublicKey | SharedSecret | PublishedKeys) -> JwksKeys | KeyFile:
    match source:
        case PublicKey(path, setting):
            return public_key_file(path, setting=setting)
        case SharedSecret(path, setting):
            return secret_file(path, setting=setting)
        case PublishedKeys(url, setting):
            return JwksKeys(url, setting=setting)
