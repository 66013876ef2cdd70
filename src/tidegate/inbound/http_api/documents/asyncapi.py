"""Describes the streams as an AsyncAPI 3 document. It is generated from the message structs, so it is up to date."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tidegate.core import built_in
from tidegate.core import envelope as wire
from tidegate.core.problem import MEDIA_TYPE
from tidegate.errors import CloseCode, MessageErrorCode

_Id = str | int


class Types(msgspec.Struct, kw_only=True):
    """Patterns: event types, prefixes ending in ``.*``, or ``*``."""

    types: list[str]


class Token(msgspec.Struct, kw_only=True):
    """A bearer token."""

    token: str


class Subscribe(msgspec.Struct, kw_only=True, tag_field="type", tag="subscribe"):
    """Add patterns, all or none. Answered with `subscribed`, then snapshots, then `synced`.

    `types` may also be next to `type` instead of in `data`.
    """

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
    """Renew the connection's token. Answered with `authenticated`. Patterns that it does not cover are removed."""

    id: _Id | UnsetType = UNSET
    data: Token


REPLIES = {Subscribe: wire.Subscribed, Unsubscribe: wire.Unsubscribed, Ping: wire.Pong, Auth: wire.Authenticated}
"""The messages of a client, and the reply to each if it is not `error`."""

NOTICES = (wire.Welcome, wire.Synced, wire.Gap, wire.ConnectionError)
"""Messages to a single connection that are not replies. A notification to a single one looks like the event."""

BUILT_IN = {
    "circuit_breaker.state": built_in.BreakerState,
    "source.freshness": built_in.SourceFreshness,
    "rpc_error": built_in.RpcError,
    "heartbeat": built_in.Heartbeat,
    "notification": wire.NotificationData,
}
"""The data of the gateway's own events. The data of all other events is what was polled or published."""

CLOSE_CODES = {
    CloseCode.NORMAL: "the client closed the connection",
    CloseCode.GOING_AWAY: "the gateway is stopping",
    1002: "protocol error (RFC 6455)",
    1007: "a text message that is not UTF-8 (RFC 6455)",
    1009: "a message over limits.message_bytes (RFC 6455)",
    CloseCode.INTERNAL_ERROR: "an unexpected error of the gateway on this connection; its log has the details",
    CloseCode.DRAINING: "the gateway is draining: reconnect after retry_after_ms of the notification",
    CloseCode.UNAUTHENTICATED: "the token is missing, invalid or expired",
    CloseCode.FORBIDDEN: "the renewed token does not have the role subscriber",
    CloseCode.TOO_SLOW: "the client read too slowly",
    CloseCode.TOO_MANY_MESSAGES: "the client ignored RATE_LIMITED for 5 s",
}
"""Every close code that a client should know, and its meaning."""

REFUSALS = {
    400: "the handshake, the query or a pattern is malformed",
    401: "the token is missing or not valid",
    403: "the Origin is not allowed, or the token lacks the role or does not cover a pattern",
    404: "there is no stream at this path",
    421: "the Host is not allowed",
    426: "the request is not a WebSocket handshake, or one of another version",
    503: "there are too many clients, the gateway is draining, or tokens cannot be checked yet: see Retry-After",
}
"""The statuses that refuse a stream before it begins."""

_SCHEMA = "#/components/schemas/"
_MESSAGE = "#/components/messages/"
_OPENING = {
    "types": "Initial patterns, separated by commas; empty: none; absent: the default types",
    "since": "EPOCH:SEQ, the position to resume from",
    "token": "A bearer token, if headers cannot be set",
    "protocol": "The protocol's version number. Any version that is not served is refused",
}
_LAST_EVENT_ID = {"lastEventId": "As `Last-Event-ID`, for a new `EventSource`"}
_HEADERS = {
    "Sec-WebSocket-Protocol": "`tidegate.v1` and, if the token cannot be in another header, `tidegate.token.` followed"
    " by the token in base64url without padding, which takes precedence over `token`"
}

Json = dict[str, Any]


def asyncapi_document(*, version: str, url: str, root_path: str = "", auth_required: bool = False) -> bytes:
    """Make the document, as JSON. `url` is where the gateway listens; `auth_required`: whether a token is needed."""
    scheme, _, host = url.partition("://")
    structs = (*REPLIES, *REPLIES.values(), wire.Error, *NOTICES)
    of_events = _of_events()
    pushed = [*map(_name, NOTICES), *of_events]
    security = [{"$ref": "#/components/securitySchemes/bearer"}] if auth_required else []
    place = {"host": host, "pathname": root_path or "/", "security": security}
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
            "servers": {
                "websocket": {**place, "protocol": scheme.replace("http", "ws")},
                "http": {**place, "protocol": scheme},
            },
            "channels": {
                "websocket": {
                    **_channel("/ws", "websocket", [*map(_name, structs), *of_events]),
                    "description": "One JSON object per text frame",
                    "bindings": {
                        "ws": {
                            "method": "GET",
                            "query": _texts(_OPENING),
                            "headers": _texts(_HEADERS),
                            "bindingVersion": "0.1.0",
                        }
                    },
                    "x-close-codes": {str(int(code)): why for code, why in CLOSE_CODES.items()},
                },
                "eventStream": {
                    **_channel("/api/v1/events", "http", pushed),
                    "description": "Server-sent events: `event` is the message's type, `data` the message, `id` the "
                    "position. `Last-Event-ID` resumes as `since` does, and takes precedence over it. If it is not a "
                    "position, the stream begins with a `gap` and the current values.",
                },
            },
            "operations": {
                **{_name(asked): _request(asked, answer) for asked, answer in REPLIES.items()},
                "deliver": {"action": "send", **_place("websocket", pushed)},
                "stream": {
                    "action": "send",
                    **_place("eventStream", pushed),
                    "bindings": {
                        "http": {
                            "method": "GET",
                            "query": _texts(_OPENING | _LAST_EVENT_ID),
                            "bindingVersion": "0.3.0",
                        }
                    },
                },
            },
            "components": {
                "schemas": _schemas(structs),
                "messages": {_name(struct): _message(struct) for struct in structs} | of_events,
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _schemas(structs: Iterable[type]) -> Json:
    _, schemas = msgspec.json.schema_components(
        (*structs, wire.EventEnvelope, *BUILT_IN.values()), ref_template=_SCHEMA + "{name}"
    )
    for schema in schemas.values():
        if "id" in schema.get("properties", {}):
            schema["properties"]["id"] = {"type": ["string", "integer"], "description": "Comes back in the reply"}
    return schemas


def _channel(address: str, server: str, names: Iterable[str]) -> Json:
    return {
        "address": address,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {name: {"$ref": _MESSAGE + name} for name in names},
        "x-refusals": {str(status): why for status, why in REFUSALS.items()},
    }


def _texts(described: Mapping[str, str]) -> Json:
    properties = {name: {"type": "string", "description": about} for name, about in described.items()}
    return {"type": "object", "properties": properties}


def _request(asked: type, answer: type) -> Json:
    reply = _place("websocket", [_name(answer), _name(wire.Error)])
    return {"action": "receive", **_place("websocket", [_name(asked)]), "reply": reply}


def _place(channel: str, names: Sequence[str]) -> Json:
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _message(struct: type) -> Json:
    message: Json = {
        "name": _name(struct),
        "summary": _summary(struct),
        "payload": {"$ref": _SCHEMA + struct.__name__},
    }
    if "id" in struct.__struct_fields__:  # type: ignore[attr-defined]
        message["correlationId"] = {"location": "$message.payload#/id"}
    return message


def _of_events() -> dict[str, Json]:
    """Describe the messages that are events: one for each built-in type, and `event` for all others."""
    envelope = {"$ref": _SCHEMA + wire.EventEnvelope.__name__}
    found: dict[str, Json] = {"event": {"name": "event", "summary": _summary(wire.EventEnvelope), "payload": envelope}}
    for event_type, data in BUILT_IN.items():
        properties = {"type": {"const": event_type}, "data": {"$ref": _SCHEMA + data.__name__}}
        found[event_type] = {
            "name": event_type,
            "summary": _summary(data),
            "payload": {"allOf": [envelope, {"type": "object", "properties": properties}]},
        }
    return found


def _summary(struct: type) -> str:
    return inspect.cleandoc(struct.__doc__ or "")


def _name(struct: type) -> str:
    """Return the name of a message, which is its type on the wire."""
    return str(getattr(struct, "__struct_config__").tag)  # noqa: B009 - no public way to ask a type


def _description() -> str:
    codes = "\n".join(f"- {int(code)}: {text}" for code, text in CLOSE_CODES.items())
    refusals = "\n".join(f"- {status}: {text}" for status, text in REFUSALS.items())
    errors = ", ".join(MessageErrorCode)
    return (
        "A subscribe is acknowledged, followed by the current values, then by `synced`, then by live events.\n\n"
        f"Codes of `error`: {errors}.\n\nClose codes of the WebSocket:\n{codes}\n\n"
        f"A refused stream is an HTTP answer with a body of type {MEDIA_TYPE}:\n{refusals}\n"
    )
