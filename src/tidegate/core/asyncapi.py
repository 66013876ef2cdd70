"""The streams as an AsyncAPI 3 document, made from the message structs, so that it cannot lag behind them."""

import inspect
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tidegate.core import envelope as wire
from tidegate.core.problem import MEDIA_TYPE
from tidegate.core.topics import BUILT_IN_TYPES
from tidegate.errors import CloseCode, MessageErrorCode

_Id = str | int


class Types(msgspec.Struct, kw_only=True):
    """Patterns: event types, prefixes ending in ``.*``, or ``*``."""

    types: list[str]


class Token(msgspec.Struct, kw_only=True):
    """A bearer token."""

    token: str


class Subscribe(msgspec.Struct, kw_only=True, tag_field="type", tag="subscribe"):
    """Add patterns, all or none. Answered with `subscribed`, then snapshots; `types` may stand beside `type` too."""

    id: _Id | UnsetType = UNSET
    data: Types


class Unsubscribe(msgspec.Struct, kw_only=True, tag_field="type", tag="unsubscribe"):
    """Remove patterns by their exact text. Answered with `unsubscribed`."""

    id: _Id | UnsetType = UNSET
    data: Types


class Ping(msgspec.Struct, kw_only=True, tag_field="type", tag="ping"):
    """Answered with `pong`."""

    id: _Id | UnsetType = UNSET


class Auth(msgspec.Struct, kw_only=True, tag_field="type", tag="auth"):
    """Renew the token of the open connection. Answered with `authenticated`; patterns that it does not cover end."""

    id: _Id | UnsetType = UNSET
    data: Token


CLIENT_MESSAGES = (Subscribe, Unsubscribe, Ping, Auth)

SERVER_MESSAGES = (
    wire.Welcome,
    wire.Subscribed,
    wire.Unsubscribed,
    wire.Authenticated,
    wire.Pong,
    wire.Error,
    wire.Gap,
    wire.ConnectionError,
    wire.Notification,
)

CLOSE_CODES = {
    CloseCode.NORMAL: "the client said goodbye",
    CloseCode.GOING_AWAY: "an end of the stream is going away",
    1002: "protocol error (RFC 6455)",
    1007: "a text message that is not UTF-8 (RFC 6455)",
    1008: "policy violation (RFC 6455)",
    1009: "a message over limits.message_bytes (RFC 6455)",
    CloseCode.DRAINING: "the gateway is draining: reconnect after retry_after_ms of the notification",
    CloseCode.OVERLOADED: "the gateway is overloaded: reconnect later",
    CloseCode.UNAUTHENTICATED: "the token is missing, invalid or expired",
    CloseCode.FORBIDDEN: "the token does not allow this",
    CloseCode.TOO_SLOW: "the client read too slowly",
    CloseCode.TOO_MANY_MESSAGES: "messages went on coming after RATE_LIMITED was ignored for 5 s",
}
"""Every close code that the server sends, and why."""

_SCHEMA = "#/components/schemas/"
_MESSAGE = "#/components/messages/"
_OPENING = {
    "types": "Initial patterns, separated by commas; empty: none; absent: the default types",
    "since": "EPOCH:SEQ, the position to resume from",
    "token": "A bearer token, where headers cannot be set",
}

Json = dict[str, Any]


def asyncapi_document(*, version: str, root_path: str = "") -> bytes:
    """The document as JSON."""
    structs = (*CLIENT_MESSAGES, *SERVER_MESSAGES, wire.EventEnvelope)
    _, schemas = msgspec.json.schema_components(structs, ref_template=_SCHEMA + "{name}")
    for schema in schemas.values():
        if "id" in schema.get("properties", {}):
            schema["properties"]["id"] = {"type": ["string", "integer"], "description": "Comes back in the reply"}
    return msgspec.json.encode(
        {
            "asyncapi": "3.1.0",
            "info": {
                "title": "Tidegate streams",
                "version": version,
                "description": _description(),
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": "application/json",
            "servers": {"this": {"host": "127.0.0.1:12080", "protocol": "ws", "pathname": root_path or "/"}},
            "channels": {
                "websocket": _channel("/ws", "One JSON object per text frame", (*CLIENT_MESSAGES, *SERVER_MESSAGES)),
                "eventStream": _channel(
                    "/api/v1/events", "Server-sent events: event is the type, data the envelope", SERVER_MESSAGES
                ),
            },
            "operations": {
                "sendToServer": _operation("receive", "websocket", CLIENT_MESSAGES),
                "receiveFromServer": _operation("send", "websocket", (*SERVER_MESSAGES, wire.EventEnvelope)),
                "receiveEventStream": _operation("send", "eventStream", (*SERVER_MESSAGES, wire.EventEnvelope)),
            },
            "components": {
                "schemas": schemas,
                "messages": {_name(struct): _message(struct) for struct in structs},
            },
        }
    )


def _channel(address: str, text: str, structs: tuple[type, ...]) -> Json:
    query = {
        "type": "object",
        "properties": {name: {"type": "string", "description": about} for name, about in _OPENING.items()},
    }
    return {
        "address": address,
        "description": text,
        "messages": {_name(s): {"$ref": _MESSAGE + _name(s)} for s in (*structs, wire.EventEnvelope)},
        "bindings": {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}},
    }


def _operation(action: str, channel: str, structs: tuple[type, ...]) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{_name(struct)}"} for struct in structs],
    }


def _message(struct: type) -> Json:
    return {
        "name": _name(struct),
        "summary": inspect.cleandoc(struct.__doc__ or ""),
        "payload": {"$ref": _SCHEMA + struct.__name__},
    }


def _name(struct: type) -> str:
    """The message's name: its type on the wire; an event's type is its source's."""
    return str(getattr(struct, "__struct_config__").tag or "event")  # noqa: B009 - no public way to ask a type


def _description() -> str:
    codes = "\n".join(f"- {int(code)}: {text}" for code, text in CLOSE_CODES.items())
    errors = ", ".join(MessageErrorCode)
    return (
        "A subscribe is acknowledged, followed by the current values, then by live events.\n\n"
        f"Built-in event types: {', '.join(sorted(BUILT_IN_TYPES))}.\n\n"
        f"Codes of `error`: {errors}.\n\nClose codes:\n{codes}\n\n"
        f"A refusal before the upgrade is an HTTP answer with a body of {MEDIA_TYPE}: 400 malformed query or pattern, "
        "401 no valid token, 403 origin not allowed or pattern not covered, 421 host not allowed, 426 no upgrade asked "
        "for, 503 with Retry-After while there is no room."
    )
