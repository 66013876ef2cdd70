"""Authenticators: no authentication, a list of tokens, or signed tokens.

Each implements `tidegate.ports.Authenticator`. Its `run` reloads tokens or keys until it is cancelled. Their messages
and log lines never contain a token or a secret.
"""

from tidegate.outbound.auth.jwt import JwtAuthenticator, JwtOptions
from tidegate.outbound.auth.keys import JwksKeys, KeyFile, public_key_file, secret_file
from tidegate.outbound.auth.signing import Signer, private_key, shared_secret
from tidegate.outbound.auth.tokens import KnownToken, OpenAuthenticator, TokenAuthenticator, TokenFile, token_text

__all__ = [
    "JwksKeys",
    "JwtAuthenticator",
    "JwtOptions",
    "KeyFile",
    "KnownToken",
    "OpenAuthenticator",
    "Signer",
    "TokenAuthenticator",
    "TokenFile",
    "private_key",
    "public_key_file",
    "secret_file",
    "shared_secret",
    "token_text",
]
