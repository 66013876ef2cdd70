"""Parameters of several routes, as the OpenAPI document describes them."""

from tidegate.core.envelope import PROTOCOL_VERSION
from tidegate.core.topics import MAX_SEGMENTS
from tidegate.inbound.http_api.answers import EVENT_TYPE_SCHEMA
from tidegate.inbound.http_api.operation import Parameter

_PATTERN = rf"([a-z0-9_-]+(\.[a-z0-9_-]+){{0,{MAX_SEGMENTS - 1}}}(\.\*)?|\*)?"
PATTERNS_SCHEMA = {"pattern": f"^{_PATTERN}(,{_PATTERN})*$"}

POSITION_SCHEMA = {"pattern": r"^([\s\S]+:[0-9]+)?$"}

EVENT_TYPE = Parameter(name="event_type", place="path", description="An event type", schema=EVENT_TYPE_SCHEMA)
BREAKER = Parameter(
    name="name", place="path", description="A breaker's name; the slash of `backend/type` may be sent as it is"
)
TYPES = Parameter(
    name="types",
    place="query",
    description="Patterns, separated by commas; absent: the defaults",
    schema=PATTERNS_SCHEMA,
)
SINCE = Parameter(
    name="since",
    place="query",
    description="The position to resume from, `EPOCH:SEQ`",
    schema=POSITION_SCHEMA,
)
LAST_EVENT_ID = Parameter(
    name="Last-Event-ID",
    place="header",
    description="The position, as browsers send it. Takes precedence over the query. If malformed, the stream begins"
    " with a `gap` and snapshots",
)
LAST_EVENT_ID_QUERY = Parameter(
    name="lastEventId",
    place="query",
    description="The same, for a new `EventSource`. Takes precedence over `since`",
)
PROTOCOL = Parameter(
    name="protocol",
    place="query",
    description="The protocol's version number. Any version that is not served is refused",
    schema={"enum": ["", str(PROTOCOL_VERSION)]},
)
SUBPROTOCOL = Parameter(
    name="Sec-WebSocket-Protocol",
    place="header",
    description="`tidegate.v1` and, if no other header can be set, `tidegate.token.` followed by a token in base64url."
    " Takes precedence over `token`",
)
SOURCES = Parameter(
    name="source",
    place="query",
    description="The type of a source of this backend: only this one is polled. May be repeated. Absent: all of them",
    schema={"type": "array", "items": {"type": "string", **EVENT_TYPE_SCHEMA}},
)
TOKEN = Parameter(
    name="token", place="query", description="A token, if headers cannot be set. A header takes precedence"
)
