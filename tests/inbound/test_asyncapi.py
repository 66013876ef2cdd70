"""The AsyncAPI document: nothing that goes over the wire is missing, and what does is as it says."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from fanout import WALL, House, ask, draft, types

from tidegate.core import envelope as wire
from tidegate.core.topics import BUILT_IN_TYPES, RESERVED_TYPES
from tidegate.errors import CloseCode, ErrorCode, MessageErrorCode
from tidegate.inbound.http_api.documents.asyncapi import BUILT_IN, CLOSE_CODES, REPLIES, asyncapi_document

ROOT = Path(__file__).parents[2]

Json = dict[str, Any]


def document(**changes: Any) -> Json:
    settings: dict[str, Any] = {"version": "0.1.0", "url": "http://127.0.0.1:12080", **changes}
    found: Json = json.loads(asyncapi_document(**settings))
    return found


def validate(message: Any, name: str) -> None:
    """`message` is what the document says of the message `name`."""
    whole = document()
    payload = whole["components"]["messages"][name]["payload"]
    jsonschema.validate(message, {**payload, "components": whole["components"]})


class TestCompleteness:
    def test_every_message_of_the_server(self) -> None:
        messages = document()["components"]["messages"]
        tags = {str(kind.__struct_config__.tag) for kind in wire.Message.__subclasses__()}
        assert tags | BUILT_IN_TYPES | {"event"} | set(map(_tag, REPLIES)) == set(messages)
        assert set(messages) >= RESERVED_TYPES

    def test_every_message_of_a_client_and_its_reply(self) -> None:
        operations = document()["operations"]
        answers = {
            name: [_last(reference) for reference in operation["reply"]["messages"]]
            for name, operation in operations.items()
            if operation["action"] == "receive"
        }
        assert answers == {
            "subscribe": ["subscribed", "error"],
            "unsubscribe": ["unsubscribed", "error"],
            "ping": ["pong", "error"],
            "auth": ["authenticated", "error"],
        }

    def test_streams_of_both_kinds_carry_the_same_but_for_replies(self) -> None:
        operations = document()["operations"]
        names = [[_last(reference) for reference in operations[it]["messages"]] for it in ("deliver", "stream")]
        assert names[0] == names[1]
        replies = {"subscribed", "unsubscribed", "authenticated", "pong", "error"}
        assert set(names[0]) == RESERVED_TYPES - replies | {"event"}

    def test_every_code(self) -> None:
        whole = document()
        codes = whole["channels"]["websocket"]["x-close-codes"]
        assert set(codes) == {str(int(code)) for code in CLOSE_CODES}
        assert set(CLOSE_CODES) >= {*CloseCode, 1002, 1007, 1009}
        text = whole["info"]["description"]
        assert all(code in text for code in (*codes, *MessageErrorCode))
        schemas = whole["components"]["schemas"]
        assert schemas["ErrorCode"]["enum"] == sorted(ErrorCode)
        assert schemas["MessageErrorCode"]["enum"] == sorted(MessageErrorCode)

    def test_every_built_in_type_has_its_data(self) -> None:
        assert set(BUILT_IN) == BUILT_IN_TYPES


class TestTruth:
    """What a gateway really sends is valid against the document."""

    async def test_of_replies(self) -> None:
        connection, channel, [welcome, synced] = House().started()
        validate(welcome, "welcome")
        validate(synced, "synced")
        asked: list[tuple[Json, str]] = [
            ({"type": "subscribe", "id": 1, "data": {"types": ["a"]}}, "subscribed"),
            ({"type": "unsubscribe", "id": "x", "data": {"types": ["a"]}}, "unsubscribed"),
            ({"type": "ping"}, "pong"),
            ({"type": "auth", "id": 4, "data": {"token": "t"}}, "authenticated"),
        ]
        for request, name in asked:
            validate(request, request["type"])
            ask(connection, request)
            answer, *rest = channel.received()
            validate(answer, name)
            assert types(rest) == ["synced"] * (name in {"subscribed", "authenticated"})
        ask(connection, {"type": "nope"})
        validate(channel.received()[0], "error")
        connection.close(CloseCode.UNAUTHENTICATED, "the token has expired")
        validate(channel.received()[0], "connection_error")

    async def test_of_events_and_gaps(self) -> None:
        house = House()
        _, channel, _ = house.started("*")
        whole = {"source": "engine", "stale": True, "as_of": WALL, "error_code": ErrorCode.CIRCUIT_BREAKER_OPEN}
        event = draft("a", {"n": 1}, key="k", retry_at=WALL, cause=ErrorCode.RPC_TIMEOUT, retain=True, **whole)
        await house.gateway.publish([event, draft("b"), draft("a", key="k", gone=True, retain=True)])
        await house.gateway.drain(0)
        house.gateway._flush()
        *events, notice = channel.received()
        for each in events:
            validate(each, "event")
        validate(notice, "notification")
        gap = wire.encode_gap("slow_consumer", timestamp=WALL, requested=None, skipped={"a": 3})
        validate(json.loads(gap), "gap")

    def test_a_message_of_another_shape_is_not_valid(self) -> None:
        with pytest.raises(jsonschema.ValidationError):
            validate({"type": "welcome", "timestamp": "now", "data": {}}, "welcome")
        with pytest.raises(jsonschema.ValidationError):
            validate({"type": "rpc_error", "timestamp": "now", "data": {}}, "rpc_error")


def test_where_the_gateway_is() -> None:
    servers = document(url="https://[::1]:443", root_path="/gw", auth_required=True)["servers"]
    assert {name: (server["protocol"], server["host"], server["pathname"]) for name, server in servers.items()} == {
        "websocket": ("wss", "[::1]:443", "/gw"),
        "http": ("https", "[::1]:443", "/gw"),
    }
    assert servers["websocket"]["security"] == [{"$ref": "#/components/securitySchemes/bearer"}]
    assert document()["servers"]["http"]["security"] == []


@pytest.mark.real
@pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules/@asyncapi/parser").exists(),
    reason="no @asyncapi/parser: see tools/install-check-tools",
)
def test_it_is_an_asyncapi_document() -> None:
    broken = document()
    broken["operations"]["ping"]["messages"] = [{"$ref": "#/channels/websocket/messages/nothing"}]
    plain, secured, refused = parsed(document(), document(auth_required=True, root_path="/gw"), broken)
    for found in (plain, secured):
        assert found["diagnostics"] == []
        assert set(found["operations"]) == {"subscribe", "unsubscribe", "ping", "auth", "deliver", "stream"}
        assert "circuit_breaker.state" in found["operations"]["deliver"]
    assert refused["diagnostics"] != []


def parsed(*documents: Json) -> Any:
    """What the reference parser says of each document."""
    program = subprocess.run(
        ["node", ROOT / "tests/support/validate-asyncapi.mjs"],
        input=msgspec.json.encode(documents),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return json.loads(program.stdout)


def _tag(kind: type) -> str:
    return str(getattr(kind, "__struct_config__").tag)  # noqa: B009 - no public way to ask a type


def _last(reference: dict[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]
