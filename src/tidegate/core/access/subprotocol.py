"""WebSocket subprotocols: Tidegate's own, and tokens that browsers send as a subprotocol (RFC 6455 section 4.1).

A page cannot set the Authorization field of a WebSocket handshake, but it can name subprotocols.
"""

import base64
import re
from collections.abc import Mapping

from tidegate.errors import AccessRefused, RefusalReason

FIELD = "sec-websocket-protocol"
PROTOCOL = "tidegate.v1"
BEARER_PREFIX = "tidegate.token."
"""The prefix of an offered subprotocol that is really a token. It is only accepted together with `PROTOCOL`."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


def is_offered(headers: Mapping[str, str]) -> bool:
    """Whether a handshake offers Tidegate's protocol. The names of `headers` must be in lower case."""
    return FIELD in headers and PROTOCOL in _offers(headers)


def offered_token(headers: Mapping[str, str]) -> str | None:
    """Return the token among the offered subprotocols, or None.

    Raises `AccessRefused` (401) if there is more than one token, or if it is not encoded correctly.
    """
    if FIELD not in headers:
        return None
    offers = _offers(headers)
    found = [offer.removeprefix(BEARER_PREFIX) for offer in offers if offer.startswith(BEARER_PREFIX)]
    if not found or PROTOCOL not in offers:
        return None
    if len(found) > 1:
        raise _bad(f"expected one {BEARER_PREFIX}… among the subprotocols, got {len(found)}")
    return _decoded(found[0])


def _offers(headers: Mapping[str, str]) -> list[str]:
    return [offer.strip(" \t") for offer in headers[FIELD].split(",")]


def _decoded(text: str) -> str:
    """Decode a token. Only the canonical encoding is accepted, so that each token can be written in only one way."""
    try:
        token = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _BASE64URL.fullmatch(text) else b""
    except ValueError:
        token = b""
    if not token.isascii() or base64.urlsafe_b64encode(token).rstrip(b"=") != text.encode():
        raise _bad(f"expected {BEARER_PREFIX} and an ASCII token in base64url without padding (RFC 4648 section 5)")
    return token.decode()


def _bad(message: str) -> AccessRefused:
    return AccessRefused(401, message, reason=RefusalReason.BAD_TOKEN)
