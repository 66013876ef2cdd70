"""Signed tokens (RFC 7519), with the claims ``roles``, ``types``, ``sub``, ``exp``, ``nbf``, ``iat``, ``aud``, ``iss``.

Only the configured algorithms are accepted, whatever a token's header says (RFC 8725 section 3.1). The signature is
verified before any claim is used.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwk import GuestProtocol, Key
from joserfc.jws import JWSRegistry
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry
from msgspec import UNSET, UnsetType

from tidegate.core.access.grant import EVERYTHING, Grant, Role
from tidegate.core.topics import PatternSet
from tidegate.errors import MessageError, MessageErrorCode, TopicError

LEEWAY_S = 30
"""How much the issuer's clock may differ from the gateway's."""

MAX_NAME = 128
"""How many characters of ``sub`` are kept for logs."""


class Keys(Protocol):
    """Where public keys, or the shared secret, come from."""

    @property
    def revision(self) -> int:
        """Another number each time after the keys have changed."""
        ...

    def key_for(self, algorithm: str, kid: str | None) -> Key:
        """Return the key for a token's `algorithm` and `kid`. Raises `MessageError` with `UNAUTHENTICATED`."""
        ...

    async def run(self) -> None:
        """Keep the keys current, until cancelled."""
        ...

    async def fetched(self) -> None:
        """Wait until there are keys, or it is known why there are none. Raises `ConfigError` then. `run` is running."""
        ...


class JwtOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens are accepted: signed with one of `algorithms`, and for `audience` and by `issuer` if given."""

    algorithms: Sequence[str]
    audience: str | None = None
    issuer: str | None = None


class Claims(msgspec.Struct, frozen=True):
    """The claims of a token. `exp` is in Unix seconds."""

    sub: str = "token"
    roles: list[str] | UnsetType = UNSET
    types: list[str] | UnsetType = UNSET
    exp: int | float | None = None


class JwtAuthenticator:
    """Accepts tokens that are signed with one of `keys`. `wall_clock` returns the time in Unix seconds."""

    def __init__(self, keys: Keys, options: JwtOptions, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._registry = JWSRegistry(algorithms=options.algorithms, strict_check_header=False)
        self._rules = JWTClaimsRegistry(now=lambda: int(wall_clock()), leeway=LEEWAY_S, **_required(options))

    def verify(self, token: str) -> Grant:
        """See `tidegate.ports.Authenticator`."""
        if not token:
            raise _unauthenticated("expected a token, got none")
        return _grant(self._claims(token))

    @property
    def revision(self) -> int:
        """See `tidegate.ports.Revised`."""
        return self._keys.revision

    async def run(self) -> None:
        """Keep the keys current, until cancelled."""
        await self._keys.run()

    async def has_keys(self) -> None:
        """Wait until tokens can be checked, while `run` is running. Raises `ConfigError` if there are no keys."""
        await self._keys.fetched()

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(token, self._key, registry=self._registry).claims
            self._rules.validate(claims)
        except ExpiredTokenError as error:
            raise _unauthenticated("expected a token that has not expired") from error
        except (InvalidClaimError, MissingClaimError) as error:
            raise _unauthenticated(f"expected other claims: {error.description}") from error
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            # Do not use the message of these errors: it may quote the token.
            raise _unauthenticated("expected a token (RFC 7519) with a signature that holds") from error
        return claims

    def _key(self, token: GuestProtocol) -> Key:
        headers = token.headers()
        return self._keys.key_for(headers["alg"], headers.get("kid"))


def _required(options: JwtOptions) -> dict[str, ClaimsOption]:
    given = {"aud": options.audience, "iss": options.issuer}
    return {name: {"essential": True, "value": value} for name, value in given.items() if value is not None}


def _grant(found: dict[str, Any]) -> Grant:
    """Make the grant. Without the claim ``roles``, the role is subscriber. Unknown roles are ignored.

    An issuer may put the roles of several services into one token.
    """
    try:
        claims = msgspec.convert(found, Claims)
        allowed = EVERYTHING if claims.types is UNSET else PatternSet.parse(claims.types)
    except (msgspec.ValidationError, TopicError) as error:
        raise _unauthenticated(f"expected other claims: {error}") from error
    roles = [Role.SUBSCRIBER] if claims.roles is UNSET else [role for role in Role if role in claims.roles]
    return Grant(
        name=claims.sub[:MAX_NAME],
        roles=frozenset(roles),
        allowed=allowed,
        expires_at=None if claims.exp is None else claims.exp + LEEWAY_S,
    )


def _unauthenticated(message: str) -> MessageError:
    return MessageError(MessageErrorCode.UNAUTHENTICATED, message)
