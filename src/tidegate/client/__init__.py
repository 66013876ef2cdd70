"""An asyncio client for the gateway: it follows the stream across restarts, and publishes events.

::

    async with tidegate.client.connect("http://127.0.0.1:12080", types=["system.*"]) as stream:
        async for item in stream:
            match item:
                case Event():
                    print(item.type, "stale" if item.stale else "fresh", item.data)
                case Gap():
                    print("events are missing:", item.reason)
                case Connected() | Disconnected():
                    print(item)

The client is self-contained: it imports none of the gateway's code.
"""

from tidegate.backoff import Backoff
from tidegate.client.addresses import DEFAULT_URL
from tidegate.client.credentials import TokenSource
from tidegate.client.health import Readiness, readiness
from tidegate.client.items import Connected, Disconnected, Event, Gap, Item
from tidegate.client.options import StreamOptions
from tidegate.client.publishing import publish
from tidegate.client.stream import Stream, connect

__all__ = [
    "DEFAULT_URL",
    "Backoff",
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
    "Item",
    "Readiness",
    "Stream",
    "StreamOptions",
    "TokenSource",
    "connect",
    "publish",
    "readiness",
]
