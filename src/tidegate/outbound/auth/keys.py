"""The keys for checking signatures: from a file, or from the issuer's JWK set (RFC 7517).

A key is only used with the algorithms for its type. So an attacker cannot use a public key as a shared secret.
"""

import asyncio
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, RSAKey

from tidegate.core.log_events import LimitedEvent
from tidegate.errors import BackendError, ConfigError, HttpStatus, MessageError, MessageErrorCode, Problem
from tidegate.outbound.auth import files
from tidegate.outbound.http_client import HttpClient, HttpOptions
from tidegate.runtime.limited_log import LoggedFault, Observe

SECRET_BYTES = 32
"""The minimum length of a secret for HS256 (RFC 7518 section 3.2)."""

RSA_BITS = 2048
"""The minimum length of a key for RS256 (RFC 7518 section 3.3). joserfc warns about shorter ones."""

REFRESH_S = 300.0
"""How often published keys are fetched if no token has an unknown key id: revoked keys are dropped after this time."""

PAUSE_S = 5.0
"""The minimum time between two fetches: tokens with invented key ids must not flood the issuer with requests."""

FETCH_S = 10.0
"""The timeout of one fetch."""

BODY_BYTES = 1_048_576
"""The largest key set that is accepted."""

KINDS = {"HS256": "oct", "RS256": "RSA", "ES256": "EC"}
"""The key type of each algorithm (RFC 7518 section 3.1)."""

CURVE = "P-256"

log = files.log


class KeyFile:
    """A key in a file, made by `public_key_file` or `secret_file`.

    `parse` raises `ConfigError` if the content is not a suitable key; so does the constructor.
    """

    def __init__(self, read: Callable[[], bytes], parse: Callable[[bytes], Key], observe: Observe) -> None:
        self.revision = 0
        """See `tidegate.outbound.auth.jwt.Keys`."""
        self._read = read
        self._parse = parse
        self._observe = observe
        self._content = read()
        self._key = parse(self._content)

    def key_for(self, algorithm: str, kid: str | None) -> Key:
        """See `tidegate.outbound.auth.jwt.Keys`. The only key is used for every `kid`."""
        del kid
        return _chosen([self._key], algorithm, None)

    async def run(self) -> None:
        """Reread the file periodically, until cancelled."""
        await files.keep_reading(self._read, self._keep, observe=self._observe)

    async def fetched(self) -> None:
        """See `tidegate.outbound.auth.jwt.Keys`. The key has been there from the beginning."""

    def _keep(self, content: bytes) -> None:
        if content != self._content:
            self._key = self._parse(content)
            self._content = content
            self.revision += 1
            log.info("key has changed")


def public_key_file(path: Path, *, setting: str, observe: Observe = lambda _: None) -> KeyFile:
    """Read a public key in PEM format. Raises `ConfigError`, which names `setting`, if it cannot be used."""
    expected = f"a PEM file with a public key: RSA of at least {RSA_BITS} bits, or EC on {CURVE}"

    def parse(content: bytes) -> Key:
        for load in (RSAKey.import_key, ECKey.import_key):
            key = imported(load, content)
            if key is not None and not key.is_private:
                return key
        raise ConfigError([Problem(setting, expected, f"{path} with something else")])

    return KeyFile(lambda: files.read(path, setting=setting, expected=expected), parse, observe)


def secret_file(path: Path, *, setting: str, observe: Observe = lambda _: None) -> KeyFile:
    """Read the shared secret for HS256. Raises `ConfigError`, which names `setting`, if it cannot be used."""
    expected = f"a file with a secret of at least {SECRET_BYTES} bytes"

    def parse(content: bytes) -> Key:
        key = imported(OctKey.import_key, content)
        if key is None or len(content) < SECRET_BYTES:
            got = f"{len(content)} bytes" if len(content) < SECRET_BYTES else "a public key"
            raise ConfigError([Problem(setting, expected, f"{path} with {got}")])
        return key

    return KeyFile(lambda: files.read(path, setting=setting, expected=expected), parse, observe)


class JwksKeys:
    """The keys that an issuer publishes at `url`. `run` fetches them.

    A token with an unknown key id causes another fetch, but not sooner than `pause_s` seconds after the last one. If a
    fetch fails, the earlier keys stay in use. Raises `ConfigError`, which names `setting`, for an unusable URL.
    """

    def __init__(
        self,
        url: str,
        setting: str = "jwks_url",
        *,
        refresh_s: float = REFRESH_S,
        pause_s: float = PAUSE_S,
        observe: Observe = lambda _: None,
    ) -> None:
        self._client = _client_for(url, setting)
        self._setting = setting
        self._tried = asyncio.Event()
        self._failure = ""  # of the last fetch
        self._refresh_s = refresh_s
        self._pause_s = pause_s
        self.revision = 0
        """See `tidegate.outbound.auth.jwt.Keys`."""
        self._keys: list[Key] | None = None
        self._wanted = asyncio.Event()
        self._failing = LoggedFault(
            "tidegate.auth",
            LimitedEvent.KEYS_NOT_FETCHED,
            over="keys fetched again",
            now=time.monotonic,
            observe=observe,
        )

    def key_for(self, algorithm: str, kid: str | None) -> Key:
        """See `tidegate.outbound.auth.jwt.Keys`. The error is retryable until the first keys have been fetched."""
        if self._keys is None:
            raise MessageError(
                MessageErrorCode.UNAUTHENTICATED,
                "the issuer's keys have not been fetched yet: try again",
                retryable=True,
            )
        if kid is not None and all(key.kid != kid for key in self._keys):
            self._wanted.set()
        return _chosen(self._keys, algorithm, kid)

    async def fetched(self) -> None:
        """See `tidegate.outbound.auth.jwt.Keys`. Waits for the first fetch."""
        await self._tried.wait()
        if self._keys is None:
            raise ConfigError([Problem(self._setting, "a URL from which keys can be fetched", self._failure)])

    async def run(self) -> None:
        """Fetch the keys now, and again periodically or when needed, until cancelled."""
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
            self._failure = _reason(error)
            self._failing.occurred(host=host, reason=self._failure, kept=len(self._keys or ()))
        else:
            self._failing.fine(host=host)
            log.debug("keys fetched", host=host, kids=[key.kid for key in keys])
            if self._keys is None or _content(keys) != _content(self._keys):
                self._keys = keys
                self.revision += 1
        self._tried.set()


def _content(keys: Sequence[Key]) -> list[Any]:
    """Return what makes keys equal: their members, in the order in which they came."""
    return [key.as_dict() for key in keys]


class _Unusable(Exception):
    """The answer is not a JWK set."""


def _client_for(url: str, setting: str) -> HttpClient:
    """Make the HTTP client for the issuer at `url`. Fetches are rare, so it keeps no connection open."""
    try:
        return HttpClient(HttpOptions(url=url, response_bytes=BODY_BYTES, idle_s=0.0))
    except ConfigError as error:
        raise ConfigError([msgspec.structs.replace(each, path=setting) for each in error.problems]) from error


def _reason(error: Exception) -> str:
    """Return why the keys could not be fetched, for the log. Without URLs, which may contain a password."""
    match error:
        case HttpStatus():
            return f"expected status 200, got {error.status}"  # the error's own text names a redirect's target
        case TimeoutError():
            return f"no answer within {FETCH_S:g} s"
        case _:
            return str(error)


def _key_set(body: bytes | bytearray) -> list[Key]:
    """Return the usable keys of a JWK set. Ignores all others (RFC 7517 section 5)."""
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
    """Import a key. Returns None if `content` is not a key, or if the key is too weak."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecurityWarning)
        try:
            key = load(content)
        except (JoseError, ValueError, TypeError, KeyError, SecurityWarning):
            return None
    return None if isinstance(key, ECKey) and key.curve_name != CURVE else key


def _chosen(keys: Sequence[Key], algorithm: str, kid: str | None) -> Key:
    """Choose the key with this id for this algorithm, or, without an id, the only key for the algorithm."""
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
