"""The test vectors of a client's position, `docs/vectors`, and what runs them on any implementation of the rule."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlsplit

import pytest

DIRECTORY = Path(__file__).parents[2] / "docs/vectors"

Json = dict[str, Any]


class Query(NamedTuple):
    """What a URL asks for; `types` None leaves the patterns to the gateway."""

    types: frozenset[str] | None
    since: str | None

    @classmethod
    def of(cls, url: str) -> "Query":
        parts = urlsplit(url)
        assert parts.path == "/ws", url
        fields = dict(parse_qsl(parts.query, keep_blank_values=True))
        assert fields.keys() <= {"types", "since"}, url
        types = fields.get("types")
        return cls(None if types is None else frozenset(filter(None, types.split(","))), fields.get("since"))


class Client(Protocol):
    """An implementation of the rule, as it connected first."""

    def take(self, message: bytes) -> None:
        """A message of the gateway has arrived."""
        ...

    def position(self) -> str | None:
        """Where it is, as ``EPOCH:SEQ``; None: nowhere."""
        ...

    def next(self) -> tuple[Query, Iterable[str]]:
        """How it connects next, and what it then subscribes to after the `synced`."""
        ...


NewClient = Callable[[Query], Client]
"""Makes a client that connects with that query first."""


def vectors() -> list[Any]:
    """All of them, as parameters of a test: a name and what it says."""
    files = sorted(DIRECTORY.glob("*.json"))
    return [pytest.param(json.loads(file.read_text(encoding="utf-8")), id=file.stem) for file in files]


def run(vector: Json, new_client: NewClient) -> None:
    """Hold a client against a vector."""
    client = new_client(Query.of(vector["url"]))
    for number, step in enumerate(vector["steps"], 1):
        match step:
            case {"receive": message, "position": position}:
                client.take(json.dumps(message).encode())
                assert client.position() == position, f"step {number}, {message['type']}"
            case {"cut": cut}:
                query, later = client.next()
                assert (query, frozenset(later)) == (Query.of(cut["url"]), frozenset(cut["subscribe"])), (
                    f"step {number}"
                )
            case _:
                assert step.keys() == {"send"}
