"""Opening a WebSocket as websockets does, but without following redirects.

A gateway sends none. Whoever answers in its place, such as a login page, would be followed to an address that was not
asked for, and could be shown the token there.
"""

from websockets.asyncio.client import connect


class open_websocket(connect):  # noqa: N801 - used as the function that it derives from
    """Awaited, an open connection. A redirect raises `InvalidStatus`, as every other answer does that is no upgrade."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc
