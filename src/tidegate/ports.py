"""The ports: small protocols for everything that the runtime needs from outside.

`tidegate.outbound` implements them, and `tidegate.testing` has a fake of each. A program that embeds the gateway may
bring its own. `tidegate.testing.contracts` tests an implementation.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from tidegate.bus_port import Bus, BusSession, Receiver
from tidegate.core.access.grant import Coverage, Grant, Role
from tidegate.core.delivery.published_value import PublishedValue
from tidegate.core.events import EncodedDraft, Event, Position
from tidegate.core.instant import Instant
from tidegate.core.measurements import Measurement
from tidegate.core.polling.call import AsCsv, AsJson, AsPrometheus, AsText, Call, HttpRequest
from tidegate.core.polling.decision import SavedValue
from tidegate.core.readings import Distribution, Read, Reading
from tidegate.core.topics import PatternSet
from tidegate.errors import BackendError

__all__ = [
    "AsCsv",
    "AsJson",
    "AsPrometheus",
    "AsText",
    "Ask",
    "Authenticator",
    "Backend",
    "Bus",
    "BusSession",
    "Call",
    "Checked",
    "Clock",
    "Coverage",
    "Distribution",
    "EncodedDraft",
    "Event",
    "Grant",
    "Hints",
    "HttpRequest",
    "Instant",
    "KeepsPublished",
    "Knocks",
    "Measurement",
    "Metrics",
    "PatternSet",
    "Position",
    "Prepares",
    "PublishedValue",
    "Read",
    "Reading",
    "Receiver",
    "RenderedMetrics",
    "Revised",
    "Role",
    "SavedValue",
    "Store",
    "Timer",
]


class Timer(Protocol):
    """A callback that is going to be called at some time."""

    def cancel(self) -> None:
        """Do not call it. Has no effect after it was called. May be repeated."""
        ...


class Clock(Protocol):
    """The only source of time for the runtime, both to read it and to wait for it.

    Monotonic time goes on while the machine is asleep, if the system can tell. A wait whose end passed meanwhile ends
    within a second after the machine wakes.
    """

    def now(self) -> Instant:
        """Return the current monotonic and wall time, read together."""
        ...

    async def sleep_until(self, mono: float) -> None:
        """Wait until the monotonic time is `mono`, in seconds.

        If that is in the past, yield to the event loop once and return.
        """
        ...

    def call_at(self, mono: float, callback: Callable[[], None]) -> Timer:
        """Have the event loop call `callback` when the monotonic time is `mono`, or in its next turn if that is past.

        Cheaper than a task that sleeps. The deadline of every call uses it.
        """
        ...


class Backend(Protocol):
    """A service that answers calls.

    The gateway does not trust a backend. What is returned or raised and not described here, such as text that is no
    JSON, is a failure that its breaker counts: the sources get the error `RPC_INVALID_RESPONSE`.
    """

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        """Make one exchange with the backend. Return an answer or an error for each call, in the order of `calls`.

        An answer is the call's whole result as JSON in valid UTF-8. Several calls are a batch; only backends with
        batching enabled are given one. Raises `BackendError` if the exchange fails as a whole.

        The caller sets the timeout and limits concurrent calls; an implementation need not. On timeout the caller
        cancels the call. A cancelled call must not leave a request or a task behind.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. Calls in flight fail with `Disconnected`."""
        ...


Ask = Callable[[Sequence[Call]], Awaitable[Sequence[msgspec.Raw | BackendError]]]
"""`Backend.call`, or a function with the same signature that `Prepares.prepare` returned."""


@runtime_checkable
class Prepares(Protocol):
    """An optional extension of `Backend`: a step that runs before the circuit breaker is asked."""

    async def prepare(self) -> Ask:
        """Get what this side needs for one exchange, such as a token from a file. Return the function that makes it.

        Must not contact the backend. The gateway calls the returned function at most once, soon, instead of
        `Backend.call`. Raises `NoCredentials` if something is missing; the breaker then records nothing, and the
        source gets the error `RPC_AUTH` and backs off. The caller sets the timeout.

        The returned function may have attributes, which the gateway reads. `connected`, a bool: whether the TCP or Unix
        connection of its last attempt stood. It must be right when the exchange has ended, in whatever way, also when
        it was cancelled at its deadline. Without it the gateway takes the connection for one that stood.
        `secret`, bytes: the credentials that it sends; None or absent if it sends none. The gateway only compares
        them. After `RPC_AUTH` it calls `prepare` again from time to time, to see whether they have changed. `made_by`,
        text: who wrote the backend. It begins the message about an answer that no backend may give. `scrubbed`, a
        function that takes a text and returns it without the secrets in it: it is called with the message of each
        error before anybody sees it.
        """
        ...


@runtime_checkable
class Knocks(Protocol):
    """An optional extension of `Backend`: finds out whether the backend can be reached, without a call.

    The gateway knocks, about once a second, while calls have stopped because no connection could be made: their
    function from `Prepares.prepare` said that it was not `connected`.
    """

    async def knock(self) -> None:
        """Make a connection in the same way as a call, with all addresses of the name, and stop there.

        Sends nothing: no TLS, no login. Keeps the connection for the next call, if possible, and closes it if there is
        no call within a few seconds. Raises `BackendError` if there is no connection. The caller sets the timeout.
        Cancelling must leave nothing behind.
        """
        ...


@runtime_checkable
class Hints(Protocol):
    """An optional extension of `Backend`: it is told when something changes, and says so.

    A hint is never a value. It only lets the gateway poll some sources before their next tick.
    """

    def hints(self) -> AsyncIterator[str | None]:
        """Yield the name of what has changed, each time that something does, or None if anything may have changed.

        The sources that have the name in `refresh_on` are polled now, and all sources of the backend after None. Give
        None when a connection is lost on which the backend would have told of changes. The gateway polls each source
        at most once a second because of hints, and reads at most 1,000 hints within a second: keep what you have yet to
        yield in a set, not in a list.

        The iterator must not end or raise: the gateway logs that, waits, and calls this again, and then polls every
        source that has a `refresh_on`. It is read by one task, which is cancelled at the end. Cancelling must leave
        nothing behind.
        """
        ...


@runtime_checkable
class Checked(Protocol):
    """An optional extension of `Backend`: if true, `core.payload.compact` has checked its answers already."""

    answers_are_compact: bool


class Store(Protocol):
    """Keeps the last good values across restarts. See `KeepsPublished` for an extension."""

    async def load(self) -> Sequence[SavedValue]:
        """Return all saved values."""
        ...

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """Queue `values` to be written and the (type, key) pairs of `gone` to be deleted.

        Returns immediately. The changes must be durable within 1 second.
        """
        ...

    async def aclose(self) -> None:
        """Write everything that is queued, then release the directory."""
        ...


@runtime_checkable
class KeepsPublished(Protocol):
    """An optional extension of `Store`: it also keeps what publishers had retained.

    These values are apart from those of `Store.load` and `Store.save`: both may have a value of the same type and key.
    With a store that lacks these methods, published values are gone after a restart.
    """

    async def load_published(self) -> Sequence[PublishedValue]:
        """Return all saved published values. Raises `StoreError` if they cannot be read.

        Of those with the same `timestamp`, such as the events of one request, a later one is taken to be newer.
        """
        ...

    def save_published(self, values: Iterable[PublishedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """Queue `values` to be written and the (type, key) pairs of `gone` to be deleted.

        Returns immediately. The changes must be durable within 0.9 seconds, those of one call all or none. (Publishers
        are promised 1 second, and the gateway collects changes for 0.1 s.)
        """
        ...


class Authenticator(Protocol):
    """Checks tokens."""

    def verify(self, token: str) -> Grant:
        """Return what the bearer of `token` may do; "" means that no token came.

        Raises `MessageError` with the code `UNAUTHENTICATED`; it is `retryable` if tokens cannot be checked right now.
        """
        ...


@runtime_checkable
class Revised(Protocol):
    """An optional extension of `Authenticator`: says when it has come to accept other tokens."""

    @property
    def revision(self) -> int:
        """Another number each time after something has changed in what `verify` returns or raises, but for expiry.

        Read about once a second, and for each request. After a change, the gateway verifies the tokens of open
        connections again.
        """
        ...


class Metrics(Protocol):
    """Records what the runtime counts and measures."""

    def observe(self, measured: Measurement) -> None:
        """Record `measured`, one of `tidegate.core.measurements`. Ignore unknown types. Never raises or blocks."""
        ...

    def read_from(self, read: Read) -> None:
        """Call `read` whenever the metrics are exported, on the event loop, for values that are not recorded.

        What it returns may be iterated over in pieces, while other things happen. Ignore readings of unknown names.
        Metrics that are not exported need not call it.
        """
        ...


@runtime_checkable
class RenderedMetrics(Metrics, Protocol):
    """Metrics that can be exported."""

    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        """Yield the metrics that `coverage` covers in pieces, in Prometheus' text format or as `openmetrics`.

        It is iterated over on the event loop, and other things are done between two pieces. So a piece should take
        less than about a millisecond. It may be empty.
        """
        ...
