"""`docs/protocol.md` speaks as the gateway does: its examples are the structs', its tables hold every code."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidegate import client
from tidegate.core.delivery.framing import EVENT_STREAM
from tidegate.core.delivery.session import Refuse, SessionLimits, StreamSession
from tidegate.core.envelope import Error, EventEnvelope, encode
from tidegate.core.events import Draft, Event, Position
from tidegate.core.topics import PatternSet
from tidegate.errors import Disconnected, MessageErrorCode
from tidegate.inbound.http_api.documents.asyncapi import BUILT_IN, CLOSE_CODES, NOTICES, REFUSALS, REPLIES
from tidegate.testing import ScriptedBackend, gateway

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]

FROM_CLIENTS: Mapping[str, Any] = {str(asked.__struct_config__.tag): asked for asked in REPLIES}
TO_CLIENTS: Mapping[str, Any] = {str(it.__struct_config__.tag): it for it in (*REPLIES.values(), Error, *NOTICES)}


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading of its first column, by their first cell without its ticks."""
    [text] = re.findall(rf"^\| {re.escape(heading)} \|.*?\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()[1:]]
    return {row[0].strip("` "): row[1:] for row in rows}


def named(kinds: Collection[str]) -> pytest.MarkDecorator:
    found = [example for example in EXAMPLES if example["type"] in kinds]
    return pytest.mark.parametrize("example", found, ids=lambda example: example["type"])


def test_every_message_has_an_example() -> None:
    types = {example["type"] for example in EXAMPLES}
    assert types == {*FROM_CLIENTS, *TO_CLIENTS, *BUILT_IN, "system.status"}


@named(TO_CLIENTS)
def test_a_message_to_one_client_is_its_struct(example: dict[str, Any]) -> None:
    message = msgspec.json.decode(json.dumps(example), type=TO_CLIENTS[example["type"]])
    assert json.loads(encode(message)) == example


@named(FROM_CLIENTS)
def test_a_message_of_a_client_is_understood(example: dict[str, Any]) -> None:
    limits = SessionLimits(patterns=9, messages_per_s=9, messages_burst=9)
    session = StreamSession(PatternSet(), allowed=PatternSet(["*"]), limits=limits, now=0.0)
    assert not isinstance(session.receive(json.dumps(example).encode(), 0.0), Refuse)
    message = msgspec.json.decode(json.dumps(example), type=FROM_CLIENTS[example["type"]])
    assert json.loads(encode(message)) == example


@named({*BUILT_IN, "system.status"})
def test_an_event_is_an_envelope_and_its_data_that_of_its_type(example: dict[str, Any]) -> None:
    envelope = msgspec.json.decode(json.dumps(example), type=EventEnvelope)
    assert json.loads(encode(envelope)) == example
    if struct := BUILT_IN.get(example["type"]):
        assert json.loads(encode(msgspec.convert(example["data"], struct))) == example["data"]


async def test_events_come_with_the_fields_of_the_examples() -> None:
    config = {
        "server": {"heartbeat_interval_s": 0.05},
        "backends": {"engine": {"url": "http://unused", "breaker": {"failure_threshold": 1}}},
        "sources": {"system.status": {"backend": "engine", "method": "system.status"}},
    }
    engine = ScriptedBackend({"system.status": {"hostname": "nas-1", "cpu_percent": 12.5}})
    async with gateway(config, backends={"engine": engine}) as running, running.follow() as events:
        await events.next("system.status")
        engine.fail(Disconnected("127.0.0.1:12081: Connection refused"))
        await running.poll("engine")
        missing = [
            example for example in EXAMPLES if example["type"] in {"system.status", *BUILT_IN} - {"notification"}
        ]

        def was_the_last(event: client.Event) -> bool:
            fields = json.loads(event.raw).keys() - {"snapshot"}
            missing[:] = [each for each in missing if each["type"] != event.type or each.keys() != fields]
            return not missing

        await events.next(where=was_the_last)


def test_the_example_of_an_event_stream_is_framed_as_the_gateway_does() -> None:
    [text] = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
    [_, place, data] = (line.partition(": ")[2] for line in text.splitlines())
    position = Position.parse(place)
    envelope = msgspec.json.decode(data, type=EventEnvelope)
    assert encode(envelope).decode() == data
    event = Event(Draft(type=envelope.type, data=envelope.data), position.seq, 0.0, data.encode())
    assert EVENT_STREAM.event(event, position.epoch).decode() == text + "\n"


def test_the_fields_of_events_are_those_of_the_envelope() -> None:
    fields = [name.strip("`") for cell in table("field") for name in cell.split(", ")]
    assert sorted(fields) == sorted(EventEnvelope.__struct_fields__)


def test_every_code_is_in_its_table() -> None:
    assert set(table("`code`")) == set(MessageErrorCode)
    assert set(table("close code")) == {str(int(code)) for code in CLOSE_CODES}
    assert set(table("status")) == {str(status) for status in REFUSALS}
