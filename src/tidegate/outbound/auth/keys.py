"""The keys that signatures are checked with: from a file, or from the issuer's JWK set (RFC 7517).

A key is only ever used for the algorithms of its kind, so that a public key is never taken for a shared secret.
"""

import asyncio
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, RSAKey

from tidegate.errors import BackendError, ConfigError, HttpStatus, MessageError, MessageErrorCode, Problem
from tidegate.outbound.auth import files
from tidegate.outbound.http_client import HttpClient, HttpOptions

SECRET_BYTES = 32
"""The shortest secret of HS256 (RFC 7518 section 3.2)."""

RSA_BITS = 2048
"""The shortest key of RS256 (RFC 7518 section 3.3); joserfc warns of shorter ones."""

REFRESH_S = 300.0
"""How often published keys are fetched while nothing asks for it."""

PAUSE_S = 5.0
"""The shortest time between two fetches, whatever key ids tokens name."""

FETCH_S = 10.0
"""How long one fetch may take, in seconds."""

BODY_BYTES = 1_048_576
"""The longest key set that is read."""

KINDS = {"HS256": "oct", "RS256": "RSA", "ES256": "EC"}
"""The kind of key of each algorithm (RFC 7518 section 3.1)."""

CURVE = "P-256"

log = files.log


class KeyFile:
    """A key in a file. `parse` raises `ConfigError` for content that is no such key, and so does this.

    Made by `public_key_file` and `secret_file`.
    """

    def __init__(self, read: Callable[[], bytes], parse: Callable[[bytes], Key]) -> None:
        self._read = read
        self._parse = parse
        self._keep(read())

    def key_for(self, algorithm: str, kid: str | None) -> Key:
        """See `tidegate.outbound.auth.jwt.Keys`. The one key serves every key id."""
        del kid
        return _chosen([self._key], algorithm, None)

    async def run(self) -> None:
        """Read the file again and again, until cancelled."""
        await files.keep_reading(self._read, self._keep)

    def _keep(self, content: bytes) -> None:
        self._key = self._parse(content)


def public_key_file(path: Path, *, setting: str) -> KeyFile:
    """A public key in PEM. Raises `ConfigError` naming `setting` where it cannot be used."""
    expected = f"a PEM file with a public key: RSA of at least {RSA_BITS} bits, or EC on {CURVE}"

    def parse(content: bytes) -> Key:
        for load in (RSAKey.import_key, ECKey.import_key):
            key = imported(load, content)
            if key is not None and not key.is_private:
                return key
        raise ConfigError([Problem(setting, expected, f"{path} with something else")])

    return KeyFile(lambda: files.read(path, setting=setting, expected=expected), parse)


def secret_file(path: Path, *, setting: str) -> KeyFile:
    """The shared secret of HS256. Raises `ConfigError` naming `setting` where it cannot be used."""
    expected = f"a file with a secret of at least {SECRET_BYTES} bytes"

    def parse(content: bytes) -> Key:
        key = imported(OctKey.import_key, content)
        if key is None or len(content) < SECRET_BYTES:
            got = f"{len(content)} bytes" if len(content) < SECRET_BYTES else "a public key"
            raise ConfigError([Problem(setting, expected, f"{path} with {got}")])
        return key

    return KeyFile(lambda: files.read(path, setting=setting, expected=expected), parse)


class JwksKeys:
    """The keys that an issuer publishes at `url`, fetched by `run`.

    A token with an unknown key id makes them be fetched at once, but never sooner than `pause_s` after the last
    time. While the issuer does not answer well, the keys that are there stay. Raises `ConfigError` naming `setting` for
    an address that cannot be asked.
    """

    def __init__(
        self, url: str, setting: str = "jwks_url", *, refresh_s: float = REFRESH_S, pause_s: float = PAUSE_S
    ) -> None:
        self._client = _client_for(url, setting)
        self._refresh_s = refresh_s
        self._pause_s = pause_s
        self._keys: list[Key] | None = None
        self._wanted = asyncio.Event()

    def key_for(self, algorithm: str, kid: str | None) -> Key:
        """See `tidegate.outbound.auth.jwt.Keys`. Retrying helps only before the first keys are there."""
        if self._keys is None:
            raise MessageError(
                MessageErrorCode.UNAUTHENTICATED, "the issuer's keys are not there yet: try again", retryable=True
            )
        if kid is not None and all(key.kid != kid for key in self._keys):
            self._wanted.set()
        return _chosen(self._keys, algorithm, kid)

    async def run(self) -> None:
        """Fetch the keys now and again, until cancelled."""
        try:
            while True:
                self._wanted.clear()
                await self._fetch()
                await asyncio.sleep(self._pause_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._refresh_s if self._keys is not None else 0):
                        await self._wanted.wait()
        finally:
            await self._client.aclose()

    async def _fetch(self) -> None:
        host = self._client.url.host
        try:
            async with asyncio.timeout(FETCH_S):
                body = await self._client.fetch("GET", self._client.url, credentials={})
            keys = _key_set(body)
        except (BackendError, TimeoutError, _Unusable) as error:
            log.warning("keys not fetched", host=host, reason=_reason(error), kept=len(self._keys or ()))
            return
        log.debug("keys fetched", host=host, kids=[key.kid for key in keys])
        self._keys = keys


class _Unusable(Exception):
    """An answer that is no JWK set."""


def _client_for(url: str, setting: str) -> HttpClient:
    """What asks the issuer at `url`. It is asked seldom, so no connection is kept."""
    try:
        return HttpClient(HttpOptions(url=url, response_bytes=BODY_BYTES, idle_s=0.0))
    except ConfigError as error:
        raise ConfigError([msgspec.structs.replace(each, path=setting) for each in error.problems]) from error


def _reason(error: Exception) -> str:
    """Why the keys could not be fetched, for the log: without the address, which may hold a password."""
    match error:
        case HttpStatus():
            return f"expected status 200, got {error.status}"  # and not where a redirect points to
        case TimeoutError():
            return f"no answer within {FETCH_S:g} s"
        case _:
            return str(error)


def _key_set(body: bytes | bytearray) -> list[Key]:
    """The usable keys of a JWK set; others are left out (RFC 7517 section 5)."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Any])["keys"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, RecursionError) as error:
        raise _Unusable("expected a JWK set (RFC 7517 section 5)") from error
    if not isinstance(members, list):
        raise _Unusable('expected a JWK set (RFC 7517 section 5), got "keys" that is no list')
    return [key for key in map(_public_key, members) if key is not None]


def _public_key(member: Any) -> Key | None:
    if not isinstance(member, dict) or member.get("kty") not in ("RSA", "EC"):
        return None
    return imported(JWKRegistry.import_key, member)


def imported(load: Callable[[Any], Key], content: Any) -> Key | None:
    """The key, or None for what is no key, or one too weak to be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecurityWarning)
        try:
            key = load(content)
        except (JoseError, ValueError, TypeError, KeyError, SecurityWarning):
            return None
    return None if isinstance(key, ECKey) and key.curve_name != CURVE else key


def _chosen(keys: Sequence[Key], algorithm: str, kid: str | None) -> Key:
    """The key of that id and kind; without an id, the only one of the kind."""
    fitting = [
        key
        for key in keys
        if key.key_type == KINDS.get(algorithm)
        and key.get("use") in (None, "sig")
        and key.get("alg") in (None, algorithm)
        and kid in (None, key.kid)
    ]
    if len(fitting) != 1:
        raise MessageError(MessageErrorCode.UNAUTHENTICATED, "expected a token signed with a key of the issuer")
    return fitting[0]
