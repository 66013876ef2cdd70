"""Looks at the TLS of a server, to explain why a connection failed: whether it has any, and for which names.

Nothing is sent over these connections but the handshake. They are closed at once.
"""

import asyncio
import contextlib
import ssl
from pathlib import Path

from yarl import URL

LOOK_S = 2.0
"""How long a look may take."""

NAMES = 6


async def certified_names(url: str, ca_file: str | None) -> list[str]:
    """Return the names and addresses for which the certificate of the server at `url` is valid; none if unknown."""
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else Path(ca_file))
        context.check_hostname = False  # that is what failed
        certificate = await _certificate(url, context)
    except (OSError, ValueError, TimeoutError):
        return []
    return [str(name) for _, name in certificate.get("subjectAltName", ())][:NAMES]


async def speaks_tls(url: str) -> bool:
    """Whether the server at `url` answers a TLS handshake."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        await _certificate(url, context)
    except (OSError, ValueError, TimeoutError):
        return False
    return True


async def _certificate(url: str, context: ssl.SSLContext) -> dict[str, tuple[tuple[str, str], ...]]:
    address = URL(url)
    async with asyncio.timeout(LOOK_S):
        _, writer = await asyncio.open_connection(address.host, address.port, ssl=context, ssl_shutdown_timeout=0.1)
    try:
        return writer.get_extra_info("peercert") or {}
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await writer.wait_closed()
