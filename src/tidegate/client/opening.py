"""Opens a WebSocket like `websockets.connect`, but does not follow redirects.

A gateway never redirects. A redirect comes from something else, such as a login page, and following it could send the
token to an address that the user did not name.
"""

from websockets.asyncio.client import connect


class open_websocket(connect):  # noqa: N801 - used as the function that it derives from
    """Await it for an open connection. A redirect raises `InvalidStatus`, like any other response but an upgrade."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc
