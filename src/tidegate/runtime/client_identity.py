"""What every line of the log about a client says of it."""

from typing import Protocol


class Identified(Protocol):
    """A client, as far as the log names it. `request_id` is the id of the request that opened its connection."""

    id: str
    address: str
    transport: str
    request_id: str


def identity(client: Identified) -> dict[str, str]:
    """Return the fields of a line of the log that say which client it is about."""
    return {
        "client_id": client.id,
        "address": client.address,
        "transport": client.transport,
        "request_id": client.request_id,
    }
