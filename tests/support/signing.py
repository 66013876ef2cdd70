"""Keys and tokens for tests: an issuer that signs whatever it is asked to."""

import base64
import functools
import json
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

NOW = 1_795_383_603
"""The wall clock of these tests, in Unix seconds."""

Claims = dict[str, Any]


@functools.cache
def rsa_key(name: str = "one") -> RSAKey:
    """An RSA key by name; making one takes a while."""
    return RSAKey.generate_key(2048, parameters={"kid": name})


@functools.cache
def ec_key(name: str = "one") -> ECKey:
    """An EC key by name."""
    return ECKey.generate_key("P-256", parameters={"kid": name})


def signed(claims: Claims, key: Key, algorithm: str = "RS256", **headers: Any) -> str:
    """A token of `claims`."""
    return jwt.encode({"alg": algorithm, **headers}, dict(claims), key, algorithms=[algorithm])


def forged(header: Any, payload: Any, signature: bytes = b"") -> str:
    """A token put together by hand; bytes go in as they are, other things as JSON."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


def secret(text: str = "s" * 32) -> OctKey:
    """A shared secret."""
    return OctKey.import_key(text)


def jwks(*keys: Key, **changes: Any) -> bytes:
    """The document that publishes `keys`, each with `changes`."""
    return json.dumps({"keys": [{**key.as_dict(private=False), **changes} for key in keys]}).encode()
