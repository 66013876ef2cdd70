"""One client's side of the protocol: a text message in, one effect out.

Decides what a message means and how to respond; the caller carries out the effect. Knows the client's patterns and
limits, and nothing of sockets, cohorts or positions.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from tidegate.core.access.grant import may_subscribe
from tidegate.core.payload import HalfSurrogatePair, decoding_error, without_bom
from tidegate.core.rate import NOTHING_OWED, Rate
from tidegate.core.topics import PatternSet, check_pattern
from tidegate.errors import CloseCode, MessageError, MessageErrorCode, TopicError

PATIENCE_S = 5.0
"""How long a client may ignore `RATE_LIMITED` before it is disconnected.

Enough time to notice the error and slow down. A client that stays within the limits for as long is forgiven.
"""


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one client: its number of patterns, its sustained rate of messages, and its burst."""

    patterns: int
    messages_per_s: float
    messages_burst: int


class AddPatterns(msgspec.Struct, frozen=True):
    """Reply `subscribed`, then send snapshots of types that `patterns` match and the earlier patterns did not.

    `added` are the new patterns; `patterns` are all that the client has now.
    """

    id: Raw | UnsetType
    added: PatternSet
    patterns: PatternSet


class RemovePatterns(msgspec.Struct, frozen=True):
    """Reply `unsubscribed`. `patterns` are those that the client still has."""

    id: Raw | UnsetType
    removed: PatternSet
    patterns: PatternSet


class SendPong(msgspec.Struct, frozen=True):
    """Reply `pong`."""

    id: Raw | UnsetType


class Authenticate(msgspec.Struct, frozen=True):
    """Check `token`. If it is valid, call `StreamSession.renew`; otherwise reply with the error `UNAUTHENTICATED`."""

    id: Raw | UnsetType
    token: str


class Refuse(msgspec.Struct, frozen=True):
    """Reply with `error`."""

    id: Raw | UnsetType
    error: MessageError


class Close(msgspec.Struct, frozen=True):
    """Close the connection."""

    code: CloseCode
    reason: str


Effect = AddPatterns | RemovePatterns | SendPong | Authenticate | Refuse | Close


class StreamSession:
    """One client's patterns, permissions and rate limit.

    `allowed` is what its token covers; `now` is the monotonic time in seconds.
    """

    __slots__ = ("_last_limited", "_limited_since", "_limits", "_owed_until", "allowed", "patterns")

    def __init__(self, patterns: PatternSet, *, allowed: PatternSet, limits: SessionLimits, now: float) -> None:
        self.patterns = patterns
        self.allowed = allowed
        self._limits = limits
        self._owed_until = NOTHING_OWED
        self._limited_since = now
        self._last_limited: float | None = None

    def receive(self, text: bytes, now: float) -> Effect:
        """Handle a text message from the client, which must be valid UTF-8. Never raises."""
        admitted = self._admit(now)
        request_id: Raw | UnsetType = UNSET
        try:
            # Decode even if the rate limit refuses the message: the reply should carry its id.
            fields = _decode(text)
            request_id = _request_id(fields)
            if admitted:
                return self._dispatch(fields, request_id)
        except MessageError as error:
            if admitted:
                return Refuse(request_id, error)
        return self._limited(request_id, now)

    def receive_binary(self, now: float) -> Effect:
        """Handle a binary message, which is always refused. Never raises."""
        if self._admit(now):
            return Refuse(UNSET, _invalid("expected a text message, got a binary one"))
        return self._limited(UNSET, now)

    def renew(self, allowed: PatternSet) -> PatternSet:
        """Apply a new token that covers `allowed`: drop the patterns that it does not cover. Return the others."""
        self.allowed = allowed
        self.patterns = PatternSet(p for p in self.patterns.patterns if self._may_subscribe(p))
        return self.patterns

    def _dispatch(self, fields: dict[str, Raw], request_id: Raw | UnsetType) -> Effect:
        match _text(fields, "type", "the message's type"):
            case "subscribe":
                return self._subscribe(request_id, _types(fields))
            case "unsubscribe":
                removed = PatternSet(self.patterns.patterns.intersection(_types(fields)))
                self.patterns -= removed
                return RemovePatterns(request_id, removed, self.patterns)
            case "ping":
                return SendPong(request_id)
            case "auth":
                return Authenticate(request_id, _text(_data(fields), "token", "data.token"))
            case unknown:
                raise MessageError(
                    MessageErrorCode.UNKNOWN_MESSAGE_TYPE,
                    f"expected type subscribe, unsubscribe, ping or auth, got {unknown[:80]!r}",
                )

    def _subscribe(self, request_id: Raw | UnsetType, types: list[str]) -> Effect:
        try:
            wanted = PatternSet(map(check_pattern, types))
        except TopicError as error:
            raise MessageError(MessageErrorCode.INVALID_PATTERN, str(error)) from error
        if refused := sorted(p for p in wanted.patterns if not self._may_subscribe(p)):
            raise MessageError(MessageErrorCode.FORBIDDEN, f"the token does not cover {', '.join(refused)}")
        patterns = self.patterns | wanted
        if len(patterns) > self._limits.patterns:
            raise MessageError(
                MessageErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"expected at most {self._limits.patterns} patterns on a connection, this would make {len(patterns)}",
            )
        added = wanted - self.patterns
        self.patterns = patterns
        return AddPatterns(request_id, added, patterns)

    def _may_subscribe(self, pattern: str) -> bool:
        return may_subscribe(self.allowed, pattern)

    def _admit(self, now: float) -> bool:
        """Count a message. Return whether the rate limit allows it."""
        rate = Rate(self._limits.messages_per_s, self._limits.messages_burst)
        owed_until = rate.charged(self._owed_until, now)
        if rate.is_over(owed_until, now):
            # Do not charge a refused message, or a client that keeps sending could never recover.
            return False
        self._owed_until = owed_until
        return True

    def _limited(self, request_id: Raw | UnsetType, now: float) -> Effect:
        """Return the effect of a message that the rate limit refused."""
        # A new period begins unless the client was limited recently.
        if self._last_limited is None or now - self._last_limited > PATIENCE_S:
            self._limited_since = now
        self._last_limited = now
        if now - self._limited_since >= PATIENCE_S:
            return Close(CloseCode.TOO_MANY_MESSAGES, "messages went on coming after RATE_LIMITED")
        return Refuse(
            request_id,
            MessageError(
                MessageErrorCode.RATE_LIMITED,
                f"expected at most {self._limits.messages_per_s:g} messages per second"
                f" and {self._limits.messages_burst} at once",
                retryable=True,
            ),
        )


def _decode(text: bytes) -> dict[str, Raw]:
    text = without_bom(text)
    try:
        return msgspec.json.decode(text, type=dict[str, Raw])
    except msgspec.ValidationError:
        raise _invalid("expected a JSON object, got another JSON value") from None
    except (msgspec.DecodeError, RecursionError) as error:
        explained = decoding_error(text, error)
        # Use only this one explanation. The general one quotes the text, which may contain a token.
        message = explained if isinstance(explained, HalfSurrogatePair) else f"expected a JSON object: {error}"
        raise MessageError(MessageErrorCode.INVALID_JSON, str(message)) from None


def _request_id(fields: dict[str, Raw]) -> Raw | UnsetType:
    if "id" not in fields:
        return UNSET
    try:
        msgspec.json.decode(fields["id"], type=int | str)
    except (msgspec.DecodeError, RecursionError):
        raise _invalid("expected id to be a string or an integer") from None
    return fields["id"]


def _data(fields: dict[str, Raw]) -> dict[str, Raw]:
    if "data" not in fields:
        return {}
    try:
        return msgspec.json.decode(fields["data"], type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        raise _invalid("expected data to be an object") from None


def _text(fields: dict[str, Raw], name: str, shown: str) -> str:
    try:
        return msgspec.json.decode(fields[name], type=str)
    except (KeyError, msgspec.DecodeError, RecursionError):
        raise _invalid(f"expected {shown} to be a string") from None


def _types(fields: dict[str, Raw]) -> list[str]:
    """Return the patterns of a message: from its `types`, from `data.types`, or from both."""
    given = [place["types"] for place in (fields, _data(fields)) if "types" in place]
    if not given:
        raise _invalid('expected data.types, a list of patterns such as ["system.*"]')
    try:
        return [pattern for part in given for pattern in msgspec.json.decode(part, type=list[str])]
    except (msgspec.DecodeError, RecursionError):
        raise _invalid("expected types to be a list of strings") from None


def _invalid(message: str) -> MessageError:
    return MessageError(MessageErrorCode.INVALID_MESSAGE, message)
