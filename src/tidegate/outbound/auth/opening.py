"""Makes the authenticator that a plan describes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tidegate.core.masking import Masked, mask_url
from tidegate.outbound.auth.jwt import JwtAuthenticator, JwtOptions
from tidegate.outbound.auth.keys import JwksKeys, KeyFile, public_key_file, secret_file
from tidegate.outbound.auth.tokens import KnownToken, OpenAuthenticator, TokenAuthenticator, TokenFile
from tidegate.ports import Authenticator, Clock
from tidegate.runtime.keeping import kept_running
from tidegate.runtime.limited_log import Observe


class OpenAccess(msgspec.Struct, frozen=True):
    """No authentication: no token is needed."""


class ListedTokens(msgspec.Struct, frozen=True):
    """One of `tokens` is needed."""

    tokens: tuple[KnownToken, ...]


class PublicKey(msgspec.Struct, frozen=True):
    """A public key in the PEM file at `path`. `setting` is the configuration key of the path."""

    path: Path
    setting: str


class SharedSecret(msgspec.Struct, frozen=True):
    """A shared secret in the file at `path`. `setting` is the configuration key of the path."""

    path: Path
    setting: str


class PublishedKeys(Masked, frozen=True):
    """The keys that the issuer publishes at `url`. `setting` is the configuration key of the URL."""

    url: str
    setting: str

    def public(self) -> dict[str, object]:
        return super().public() | {"url": mask_url(self.url)}


class SignedTokens(msgspec.Struct, frozen=True):
    """A token that is signed with one of `keys` is needed."""

    keys: PublicKey | SharedSecret | PublishedKeys
    options: JwtOptions


Authentication = OpenAccess | ListedTokens | SignedTokens


def reads_files(authentication: Authentication) -> bool:
    """Whether tokens or keys are in files, whose content may change while `authentication` stays the same."""
    match authentication:
        case ListedTokens(tokens):
            return any(isinstance(known.token, TokenFile) for known in tokens)
        case SignedTokens(keys):
            return not isinstance(keys, PublishedKeys)
    return False


@asynccontextmanager
async def opened(
    authentication: Authentication, clock: Clock, *, observe: Observe = lambda _: None
) -> AsyncIterator[Authenticator]:
    """Yield the authenticator, and reload its tokens or keys while the context is open. Raises as `made` does."""
    authenticator = made(authentication, observe=observe)
    async with kept_running({"access": authenticator.run}, clock, observe=observe):
        yield authenticator


@asynccontextmanager
async def opened_with_keys(
    authentication: Authentication, clock: Clock, *, observe: Observe = lambda _: None
) -> AsyncIterator[Authenticator]:
    """Yield the authenticator as `opened` does, but only when it can check tokens: its keys have been fetched.

    Reads files in a thread. Raises `ConfigError` also if the keys cannot be fetched now.
    """
    authenticator = await asyncio.to_thread(made, authentication, observe=observe)
    async with kept_running({"access": authenticator.run}, clock, observe=observe):
        if isinstance(authenticator, JwtAuthenticator):
            await authenticator.has_keys()
        yield authenticator


def made(
    authentication: Authentication, *, observe: Observe = lambda _: None
) -> OpenAuthenticator | TokenAuthenticator | JwtAuthenticator:
    """Make the authenticator, whose `run` is not running yet. `observe` counts lines that were not logged.

    Reads files. Raises `ConfigError`, which names the setting at fault.
    """
    match authentication:
        case OpenAccess():
            return OpenAuthenticator()
        case ListedTokens(tokens):
            return TokenAuthenticator(tokens, observe=observe)
        case SignedTokens(keys, options):
            return JwtAuthenticator(_keys(keys, observe), options)


def _keys(source: PublicKey | SharedSecret | PublishedKeys, observe: Observe) -> JwksKeys | KeyFile:
    match source:
        case PublicKey(path, setting):
            return public_key_file(path, setting=setting, observe=observe)
        case SharedSecret(path, setting):
            return secret_file(path, setting=setting, observe=observe)
        case PublishedKeys(url, setting):
            return JwksKeys(url, setting=setting, observe=observe)
