"""What the runtime needs from outside, as small protocols. Adapters implement them; `tidegate.testing` fakes them."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from tidegate.core.events import Draft, Position
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
    "Call",
    "Checked",
    "Clock",
    "Coverage",
    "Deliver",
    "Draft",
    "Grant",
    "Instant",
    "Measurement",
    "Metrics",
    "PatternSet",
    "Position",
    "Prepares",
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


class Call(msgspec.Struct, frozen=True):
    """One request to a backend. For JSON-RPC `params` is a JSON object or array; for plain HTTP it is unused."""

    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


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


class SavedValue(msgspec.Struct, frozen=True):
    """A source's last good value as it lies on disk. `key` is "" where the type has no keys; `as_of` is Unix time."""

    type: str
    key: str
    data: bytes
    as_of: float


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
    """Orders what is published. Delivery goes to the callback given to `connect`, in the order of positions."""

    @property
    def position(self) -> Position:
        """The newest position given; `seq` 0 before the first."""
        ...

    def connect(self, deliver: "Deliver") -> None:
        """Name the one receiver of everything that is published. Called once, before the first `publish`."""
        ...

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Give `drafts` consecutive positions and deliver them in one go; the position of the last."""
        ...


class Deliver(Protocol):
    """The gateway's end of the bus."""

    def __call__(self, drafts: Sequence[tuple[int, Draft]]) -> None: ...


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


class RenderedMetrics(Metrics, Protocol):
    """Metrics that can be shown."""

    def render(self, coverage: Coverage) -> bytes:
        """What `coverage` covers, in Prometheus' text format. May be called in another thread."""
        ...
