"""How programs use the client; never run, checked by mypy and pyright in their strict modes.

A line with an ignored error holds a mistake that the types must find: both checkers complain of an ignore that is not
needed.
"""

from datetime import datetime
from typing import Any, assert_never, assert_type

import msgspec

from tidegate.client import (
    Backoff,
    Connected,
    Disconnected,
    Event,
    Gap,
    Item,
    Readiness,
    Stream,
    StreamOptions,
    connect,
    publish,
    readiness,
)
from tidegate.errors import AccessRefused, CloseCode, RefusalReason, StreamClosed, Unreachable


class Status(msgspec.Struct):
    cpu_percent: float


async def follow() -> None:
    options = StreamOptions(backoff=Backoff(first_s=0.5), open_timeout_s=3.0)
    async with connect("http://gateway", types=["system.*"], token=fresh_token, options=options) as stream:
        assert_type(stream, Stream)
        async for item in stream:
            assert_type(item, Item)
            shown(item)
        assert_type(stream.position, str | None)


def shown(item: Item) -> str:
    match item:
        case Event():
            assert_type(item.stale, bool | None)
            assert_type(item.as_of, datetime | None)
            assert_type(item.data, Any)
            return str(msgspec.json.decode(item.data_json, type=Status).cpu_percent)
        case Gap():
            assert_type(item.skipped, dict[str, int])
            return item.reason
        case Connected():
            return item.client_id
        case Disconnected():
            assert_type(item.code, int | None)
            return item.reason
        case _:
            assert_never(item)


async def fresh_token() -> str:
    return "secret"


async def tell() -> None:
    try:
        assert_type(await publish("lab.door", {"open": True}, key="front", retain=True, ttl_s=60.0), str)
        assert_type(await readiness(), Readiness)
    except AccessRefused as refused:
        assert_type(refused.reason, RefusalReason | None)
        assert_type(refused.retry_after_s, int | None)
    except StreamClosed as closed:
        print(CloseCode(closed.code))
    except Unreachable as unreachable:
        print(unreachable)


async def mistakes() -> None:
    connect("http://gateway", types=3)  # type: ignore[arg-type]
    connect("http://gateway", ["system.*"])  # type: ignore[call-arg]
    await publish("lab.door", {}, retain="yes")  # type: ignore[arg-type]
    Backoff(0.5)  # type: ignore[call-arg]
    Readiness("well")  # type: ignore[arg-type]


def events_are_values(event: Event) -> None:
    event.stale = False  # type: ignore[misc]
