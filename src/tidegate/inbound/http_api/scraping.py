"""What a scraper is answered: the metrics in the format that it asks for, compressed if it accepts that."""

import asyncio
import zlib
from collections.abc import Iterator

TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of Prometheus' text format."""

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The media type of OpenMetrics."""

LEVEL = 1
"""How hard zlib tries. Metrics are so regular that more would cost more time than it saves bytes."""

GZIP = 16 + zlib.MAX_WBITS
"""Makes zlib write gzip's format."""


def wants_openmetrics(accept: str) -> bool:
    """Whether a client with this ``Accept`` header prefers OpenMetrics to Prometheus' text format."""
    offered = _qualities(accept)
    wanted = offered.get("application/openmetrics-text", 0.0)
    text = max(offered.get(kind, 0.0) for kind in ("text/plain", "text/*", "*/*"))
    return wanted > 0 and wanted >= text


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client with this ``Accept-Encoding`` header accepts gzip."""
    offered = _qualities(accept_encoding)
    return offered.get("gzip", offered.get("*", 0.0)) > 0


async def gathered(pieces: Iterator[bytes], *, gzip: bool) -> bytes:
    """Join `pieces`, compressed with `gzip`. The event loop has a turn after each of them."""
    compressed = zlib.compressobj(LEVEL, wbits=GZIP) if gzip else None
    body = []
    for piece in pieces:
        body.append(piece if compressed is None else compressed.compress(piece))
        await asyncio.sleep(0)
    if compressed is not None:
        body.append(compressed.flush())
    return b"".join(body)


def _qualities(header: str) -> dict[str, float]:
    """Return the quality of each item of a header such as ``Accept``, by its name. One that is malformed counts 0."""
    found: dict[str, float] = {}
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            found[name] = max(found.get(name, 0.0), float(quality))
        except ValueError:
            found.setdefault(name, 0.0)
    return found
