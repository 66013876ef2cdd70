"""The opening handshake (RFC 6455 section 4.2). Checks the request and returns the bytes of the answer. No I/O."""

import base64
import binascii
import hashlib
from collections.abc import Mapping

from tidegate.core import problem
from tidegate.core.access import subprotocol
from tidegate.errors import AccessRefused, RefusalReason

VERSION = "13"

KEY_BYTES = 16


def check_version(headers: Mapping[str, str]) -> None:
    """Raise `AccessRefused` (426) unless the request is for version 13. `headers` have names in lower case."""
    version = headers.get("sec-websocket-version")
    if version != VERSION:
        raise _malformed(426, f"expected Sec-WebSocket-Version {VERSION} (RFC 6455), got {version!r}")


def acceptance(method: str, headers: Mapping[str, str], *, request_id: str) -> bytes:
    """Make the answer that opens the connection. It accepts no extension, and no subprotocol except our own.

    Raises `AccessRefused`: 405 if the method is not GET; 400 if the key is invalid, or if there is a body, which would
    be read as frames.
    """
    if method != "GET":
        raise _malformed(405, f"expected GET, got {method}")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise _malformed(400, "expected no body behind a handshake")
    key = headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise _malformed(400, f"expected Sec-WebSocket-Key to be {KEY_BYTES} bytes in base64, got {key[:80]!r}")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\nX-Request-ID: %b\r\n%b\r\n"
        % (_accept(key), request_id.encode(), _SELECTED if subprotocol.is_offered(headers) else b"")
    )


def refusal(refused: AccessRefused) -> problem.ProblemAnswer:
    """Make the answer that refuses the upgrade. The connection must be closed after it."""
    return problem.refusal(refused, _MORE.get(refused.status, {}))


def _accept(key: str) -> bytes:
    """Compute `Sec-WebSocket-Accept`. It proves to the client that the server speaks WebSocket."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())


_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_MORE = {405: {"Allow": "GET"}, 426: {"Sec-WebSocket-Version": VERSION}}

_SELECTED = f"Sec-WebSocket-Protocol: {subprotocol.PROTOCOL}\r\n".encode()


def _malformed(status: int, message: str) -> AccessRefused:
    return AccessRefused(status, message, reason=RefusalReason.MALFORMED)


def _is_key(text: str) -> bool:
    try:
        return len(binascii.a2b_base64(text, strict_mode=True)) == KEY_BYTES
    except ValueError:  # other characters than ASCII, or a `binascii.Error`
        return False
