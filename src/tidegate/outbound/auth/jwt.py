"""Signed tokens (RFC 7519): the claims ``roles``, ``types``, ``sub``, ``exp``, ``nbf``, ``iat``, ``aud``, ``iss``.

The algorithms are those of the configuration, whatever a token says of itself (RFC 8725 section 3.1). Signatures
are checked before anything that a token claims is looked at.
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

from tidegate.core.grant import EVERYTHING, Grant, Role
from tidegate.core.topics import PatternSet
from tidegate.errors import MessageError, MessageErrorCode, TopicError

LEEWAY_S = 30
"""How far the issuer's clock may be from ours."""

MAX_NAME = 128


class Keys(Protocol):
    """Where public keys, or the shared secret, come from."""

    def key_for(self, algorithm: str, kid: str | None) -> Key:
        """The key of a token that names `algorithm` and `kid`. Raises `MessageError` with `UNAUTHENTICATED`."""
        ...

    async def run(self) -> None:
        """Keep the keys current, until cancelled."""
        ...


class JwtOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is accepted: signatures by `algorithms`; `audience` and `issuer` where they are given."""

    algorithms: Sequence[str]
    audience: str | None = None
    issuer: str | None = None


class Claims(msgspec.Struct, frozen=True):
    """What a token says of its bearer. `exp` is Unix time."""

    sub: str = "token"
    roles: list[str] | UnsetType = UNSET
    types: list[str] | UnsetType = UNSET
    exp: int | float | None = None


class JwtAuthenticator:
    """Believes tokens that are signed with `keys`. `wall_clock` tells Unix time."""

    def __init__(self, keys: Keys, options: JwtOptions, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._registry = JWSRegistry(algorithms=options.algorithms, strict_check_header=False)
        self._rules = JWTClaimsRegistry(now=lambda: int(wall_clock()), leeway=LEEWAY_S, **_required(options))

    def verify(self, token: str) -> Grant:
        """See `tidegate.ports.Authenticator`."""
        if not token:
            raise _unauthenticated("expected a token, got none")
        return _grant(self._claims(token))

    async def run(self) -> None:
        """Keep the keys current, until cancelled."""
        await self._keys.run()

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(token, self._key, registry=self._registry).claims
            self._rules.validate(claims)
        except ExpiredTokenError as error:
            raise _unauthenticated("expected a token that has not expired") from error
        except (InvalidClaimError, MissingClaimError) as error:
            raise _unauthenticated(f"expected other claims: {error.description}") from error
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            # What these say may quote the token.
            raise _unauthenticated("expected a token (RFC 7519) with a signature that holds") from error
        return claims

    def _key(self, token: GuestProtocol) -> Key:
        headers = token.headers()
        return self._keys.key_for(headers["alg"], headers.get("kid"))


def _required(options: JwtOptions) -> dict[str, ClaimsOption]:
    given = {"aud": options.audience, "iss": options.issuer}
    return {name: {"essential": True, "value": value} for name, value in given.items() if value is not None}


def _grant(found: dict[str, Any]) -> Grant:
    """What `found` claims. Roles that are not ours are another service's; no claim makes a subscriber."""
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
