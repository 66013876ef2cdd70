"""The faults as values, and which kinds may hit a call.

The name of a fault in the control API is its class name in snake case; its fields are the parameters. This module must
not know sockets: `jsonrpc`, `answers` and `delivery` implement the effects.
"""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tidegate.errors import UnknownName

Seconds = Annotated[float, Meta(ge=0)]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Down(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag=_snake):
    """The listening socket is closed, so connections are refused. Open connections are reset."""


class Unanswered(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag=_snake):
    """Connecting is neither accepted nor refused, as at an address without a machine. Open connections are reset.

    `Down` takes precedence.
    """


class Drawn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="name", tag=_snake):
    """A fault that hits each call with `probability`. With `count`, it is switched off after that many hits.

    With `methods`, it hits only calls of these JSON-RPC methods or HTTP paths. A batch is hit as a whole.
    """

    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    count: Annotated[int, Meta(ge=1)] | None = None
    methods: tuple[str, ...] = ()

    def concerns(self, called: Collection[str]) -> bool:
        """Return whether it may hit a call of the methods `called`."""
        return not self.methods or not set(self.methods).isdisjoint(called)


class AnswerFault(Drawn, frozen=True):
    """Determines the answer. At most one hits a call: of those drawn, the one that was set last."""


class DeliveryFault(Drawn, frozen=True):
    """Determines how the answer is delivered. All that were drawn take effect together."""


class Reset(DeliveryFault, frozen=True):
    """RST after the head and `after_bytes` of the body; None means half of the first piece of the body."""

    after_bytes: Annotated[int, Meta(ge=0)] | None = None


class Latency(DeliveryFault, frozen=True):
    """The answer is delayed by `delay_s` and up to `jitter_s` more. In a stream, every piece is."""

    delay_s: Seconds = 0.1
    jitter_s: Seconds = 0.0


class Bandwidth(DeliveryFault, frozen=True):
    """Bytes are sent to the client, and read from upstream, at no more than `bytes_per_s`."""

    bytes_per_s: Annotated[float, Meta(gt=0)] = 1024.0


class Slicing(DeliveryFault, frozen=True):
    """Bytes are sent to the client in writes of `size_bytes`, with `pause_s` between them."""

    size_bytes: Annotated[int, Meta(ge=1)] = 1
    pause_s: Seconds = 0.0


class SlowClose(DeliveryFault, frozen=True):
    """The answer says ``Connection: close``, but the close comes `delay_s` later. Also at the end of a stream."""

    delay_s: Seconds = 1.0


class Late(DeliveryFault, frozen=True):
    """Upstream is called at once, but its answer is held until it is released."""


class BlackHole(AnswerFault, frozen=True):
    """Everything is read and nothing is answered, until the connection ends."""


class DeadKeepAlive(AnswerFault, frozen=True):
    """A kept-alive connection is closed without an answer at its next request."""


class StalledHeaders(AnswerFault, frozen=True):
    """The answer stops in the middle of its headers, and the connection stays open."""


class Status(AnswerFault, frozen=True):
    """An HTTP error status."""

    code: Annotated[int, Meta(ge=400, le=599)] = 500


class TooManyRequests(AnswerFault, frozen=True):
    """429 with ``Retry-After: retry_after_s``."""

    retry_after_s: Annotated[int, Meta(ge=0)] = 1


class Unauthorized(AnswerFault, frozen=True):
    """401 with ``WWW-Authenticate``."""


class Html(AnswerFault, frozen=True):
    """200 with a page of HTML."""


class RpcError(AnswerFault, frozen=True):
    """A JSON-RPC error object with `code` for every call of the request."""

    code: int = -32000
    message: str = "made up by the fault proxy"


class HugeBody(AnswerFault, frozen=True):
    """A valid answer of `size_bytes` in total. The proxy holds only one piece of it in memory."""

    size_bytes: Annotated[int, Meta(ge=256)] = 100 * 1024 * 1024


class EndlessBody(AnswerFault, frozen=True):
    """A chunked answer with a valid start that never ends."""


class DeepJson(AnswerFault, frozen=True):
    """A valid answer whose result is `depth` nested arrays."""

    depth: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000


class SpoilFault(AnswerFault, frozen=True):
    """Changes the body of upstream's own answer."""


class TruncatedJson(SpoilFault, frozen=True):
    """The first half of the body, with the ``Content-Length`` of that half."""


class WrongId(SpoilFault, frozen=True):
    """Every answer has an id that no request had."""


class ResultAndError(SpoilFault, frozen=True):
    """Every answer has both a result and an error."""


class NoResultNoError(SpoilFault, frozen=True):
    """Every answer has neither result nor error."""


class PartialBatch(SpoilFault, frozen=True):
    """A batch is answered without its first `drop` answers. A single answer is not changed."""

    drop: Annotated[int, Meta(ge=1)] = 1


class Nan(SpoilFault, frozen=True):
    """Every result is ``NaN``, which JSON does not have."""


class Fault:
    """All faults by name: ``Fault.latency(delay_s=0.2, probability=0.5)``."""

    down = Down
    unanswered = Unanswered
    reset = Reset
    black_hole = BlackHole
    latency = Latency
    bandwidth = Bandwidth
    slicing = Slicing
    slow_close = SlowClose
    late = Late
    dead_keep_alive = DeadKeepAlive
    stalled_headers = StalledHeaders
    status = Status
    too_many_requests = TooManyRequests
    unauthorized = Unauthorized
    html = Html
    rpc_error = RpcError
    huge_body = HugeBody
    endless_body = EndlessBody
    deep_json = DeepJson
    truncated_json = TruncatedJson
    wrong_id = WrongId
    result_and_error = ResultAndError
    no_result_no_error = NoResultNoError
    partial_batch = PartialBatch
    nan = Nan


AnyFault = Down | Unanswered | Drawn

FAULTS: Mapping[str, type[AnyFault]] = {name: kind for name, kind in vars(Fault).items() if isinstance(kind, type)}

CALL_FAULTS: frozenset[type[AnyFault]] = frozenset(FAULTS.values()) - {Down, Unanswered, DeadKeepAlive}
"""The faults that may hit the first call on a connection."""

REUSED_CALL_FAULTS = CALL_FAULTS | {DeadKeepAlive}
"""The faults that may hit a later call on a connection."""

PIECE_FAULTS: frozenset[type[AnyFault]] = frozenset({BlackHole, Reset, Latency, Bandwidth, Slicing})
"""The faults that may hit one piece of a stream to the client."""

CLOSE_FAULTS: frozenset[type[AnyFault]] = frozenset({SlowClose})
"""The faults that may hit the end of a stream."""


def fault_kind(name: str) -> type[AnyFault]:
    """Return the class of the fault called `name`. Raises `UnknownName`."""
    try:
        return FAULTS[name]
    except KeyError:
        raise UnknownName(f"expected a fault ({', '.join(sorted(FAULTS))}), got {name[:80]!r}") from None


def fault_from(name: str, parameters: Mapping[str, Any]) -> AnyFault:
    """Make the fault called `name`. Raises `UnknownName`, and `msgspec.ValidationError` for invalid parameters."""
    return msgspec.convert({"name": name, **parameters}, type=fault_kind(name))


def name_of(fault: AnyFault) -> str:
    """Return the name of `fault` in the control API."""
    return str(fault.__struct_config__.tag)
