"""Who a token belongs to: nobody asks, a list of tokens, or a signature.

Each authenticator implements `tidegate.ports.Authenticator`, and has a `run` that keeps what it checks against
current until it is cancelled. No message and no log line of theirs holds a token or a secret.
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
