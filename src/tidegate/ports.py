"""What the runtime needs from outside, as small protocols. Adapters implement them; `tidegate.testing` fakes them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

from tidegate.core.backend_plan import Call
from tidegate.core.decision import SavedValue
from tidegate.core.events import EncodedDraft, Event, Position
from tidegate.core.grant import Coverage, Grant, Role
from tidegate.core.instant import Instant
from tidegate.core.measurements import Measurement
from tidegate.core.topics import PatternSet
from tidegate.errors import BackendError

__all__ = [
    "Ask",
    "Authenticator",
    "Backend",
    "Bus",
    "BusSession",
    "Call",
    "Checked",
    "Clock",
    "Coverage",
    "EncodedDraft",
    "Event",
    "Grant",
    "Instant",
    "Measurement",
    "Metrics",
    "PatternSet",
    "Position",
    "Prepares",
    "Receiver",
    "RenderedMetrics",
    "Role",
    "SavedValue",
    "Store",
]


class Clock(Protocol):
    """Where time comes from, and how it is waited for: the runtime asks nobody else."""

    def now(self) -> Instant:
        """The monotonic and the wall time of this moment."""
        ...

    async def sleep_until(self, mono: float) -> None:
        """Wait until the monotonic time is `mono`, in seconds; where that is past, only let others have their turn."""
        ...


class Backend(Protocol):
    """A service that answers calls.

    The gateway believes nothing of what comes back. Whatever else than described here is returned or raised, an answer
    that is no JSON among it, is told like any other failure of the backend: `RPC_INVALID_RESPONSE`, an `rpc_error`, and
    one failure for the breaker. `runtime/exchange.py` is the place.
    """

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        """One exchange with the backend: an answer or an error for each call, in the order of `calls`.

        An answer is the call's whole result as JSON in valid UTF-8. More than one call makes a batch, which only
        backends with batching are given. Raises `BackendError` where the exchange failed as a whole.
        Sets no deadline and no bound on calls at once: the caller does, and cancels what is late. A cancelled call
        leaves no request or task behind.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. Calls in flight fail with `Disconnected`."""
        ...


Ask = Callable[[Sequence[Call]], Awaitable[Sequence[msgspec.Raw | BackendError]]]
"""`Backend.call`, or one such call that has what it needs."""


@runtime_checkable
class Prepares(Protocol):
    """What a `Backend` may offer besides: a step before the circuit breaker is asked."""

    async def prepare(self) -> Ask:
        """Get our own part of one exchange, as a token from its file, and say how to make that exchange with it.

        Sends nothing. What is returned is called at most once, soon, in place of `Backend.call`. Raises
        `NoCredentials` where the part is missing: the breaker hears nothing of that, the source is `RPC_AUTH` and
        backs off. The caller sets the deadline.
        """
        ...


@runtime_checkable
class Checked(Protocol):
    """What a `Backend` may declare: its answers were made by `core.payload.compact`, so nobody checks them again."""

    answers_are_compact: bool


class Store(Protocol):
    """Last good values across restarts."""

    async def load(self) -> Sequence[SavedValue]:
        """Everything that was saved."""
        ...

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """Take values to write, and (type, key) pairs to forget; returns at once, they are on disk within 1 s."""
        ...

    async def aclose(self) -> None:
        """Write what is waiting, then release the directory."""
        ...


class Bus(Protocol):
    """Gives what is published its order, the same for everyone who listens."""

    def open(self, receiver: "Receiver") -> "AbstractAsyncContextManager[BusSession]":
        """Connect `receiver`: while the context is open, it is delivered everything that anyone publishes.

        Raises `BusError` on entering where the bus cannot be used. Leaving it ends every delivery; futures of
        publishes that are not done by then are cancelled.
        """
        ...


class BusSession(Protocol):
    """One receiver's connection to the bus."""

    @property
    def position(self) -> Position:
        """The position that the receiver has come to: of the newest event delivered, or where it began."""
        ...

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002 - what every bus calls it
        """Publish `drafts`, at least one: all or none, with ascending positions and no other event between them.

        Publishes that are in flight at the same time may get their positions in any order. To keep an order, wait for
        an outcome before the next publish, as `tidegate.runtime.publishing.Lane` does.

        A plain call that never raises; the future tells the outcome. Its result is the position of the last draft,
        once all are stored and were delivered to this session's receiver. It fails with `BusRefused` (certainly not
        published) or `BusUnknown` (perhaps published, now or later). After `BusUnknown` the same drafts may be given
        again with the same `id`: they are published once. That holds for any `id` that was taken before.

        With a `fence`, a bus that several gateways share refuses drafts whose publisher's term is over. Cancelling the
        future does not stop the publish.
        """
        ...


class Receiver(Protocol):
    """The gateway's end of a bus. The bus calls it from the event loop; no method waits or raises."""

    def deliver(self, events: Sequence[Event]) -> None:
        """Take the next events, in the order of their positions.

        Positions ascend but may leave holes, where nothing was published. After a reconnect events may come again
        that were delivered already: the receiver drops them.
        """
        ...

    def epoch_changed(self, position: Position) -> None:
        """Another sequence has begun: nothing that was delivered counts any more, and `position` is where it begins."""
        ...

    def lost(self, why: str) -> None:
        """The bus cannot be reached: nothing is delivered, and publishes fail, until `regained`."""
        ...

    def regained(self) -> None:
        """The bus is back, and everything that was missed has been delivered."""
        ...


class Authenticator(Protocol):
    """Who a token belongs to."""

    def verify(self, token: str) -> Grant:
        """What the bearer of `token` may do; "" is no token. Raises `MessageError` with `UNAUTHENTICATED`."""
        ...


class Metrics(Protocol):
    """Takes what the runtime counts and measures."""

    def observe(self, measured: Measurement) -> None:
        """Count `measured`, one of `tidegate.core.measurements`; ignore what is not known. Never raises or blocks."""
        ...


@runtime_checkable
class RenderedMetrics(Metrics, Protocol):
    """Metrics that can be shown."""

    def render(self, coverage: Coverage) -> bytes:
        """What `coverage` covers, in Prometheus' text format. May be called in another thread."""
        ...
