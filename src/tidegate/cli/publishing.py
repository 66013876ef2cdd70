"""The ``publish`` command: publishes one event."""

import asyncio
import sys

import msgspec

from tidegate.client import publish
from tidegate.errors import ConfigError, Problem
from tidegate.printable import printable


def publish_event(event_type: str, json: str, *, key: str | None, url: str, retain: bool, token: str | None) -> int:
    """Publish one event and print its position. Raises `ConfigError` if `json` is not JSON, and the client's errors."""
    try:
        msgspec.json.decode(json)
    except msgspec.DecodeError as error:
        raise ConfigError([Problem("JSON", "the event's data as JSON", f"{json[:80]!r} ({error})")]) from error
    data = msgspec.Raw(json.encode())
    position = asyncio.run(publish(event_type, data, url=url, key=key, retain=retain, token=token))
    sys.stdout.write(f"{printable(position)}\n")
    return 0
