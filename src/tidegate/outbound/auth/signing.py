"""Signs tokens that `jwt.JwtAuthenticator` accepts, for operators who have no token issuer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey

from tidegate.errors import ConfigError, Problem
from tidegate.outbound.auth import files
from tidegate.outbound.auth.keys import CURVE, KINDS, RSA_BITS, imported, secret_file

EXPECTED = f"a PEM file with an unencrypted private key: RSA of at least {RSA_BITS} bits, or EC on {CURVE}"


class Signer(msgspec.Struct, frozen=True):
    """A signing key, and the one algorithm that it is used with."""

    algorithm: str
    key: Key

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a signed token (RFC 7519) with `claims`."""
        return jwt.encode({"alg": self.algorithm}, dict(claims), self.key, algorithms=[self.algorithm])

    def __repr__(self) -> str:
        return f"Signer({self.algorithm})"


def shared_secret(path: Path, *, setting: str) -> Signer:
    """Make a signer for HS256. Raises `ConfigError`, which names `setting`, if the file has no suitable secret."""
    return Signer("HS256", secret_file(path, setting=setting).key_for("HS256", None))


def private_key(path: Path, *, setting: str) -> Signer:
    """Make a signer for RS256 or ES256, depending on the key.

    Raises `ConfigError`, which names `setting`, if the file has no suitable key.
    """
    content = files.read(path, setting=setting, expected=EXPECTED)
    algorithms = {kind: algorithm for algorithm, kind in KINDS.items()}
    for load in (RSAKey.import_key, ECKey.import_key):
        key = imported(load, content)
        if key is not None and key.is_private:
            return Signer(algorithms[key.key_type], key)
    raise ConfigError([Problem(setting, EXPECTED, f"{path} with something else")])
