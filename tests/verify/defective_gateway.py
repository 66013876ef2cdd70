"""A gateway with one planted defect: ``python defective_gateway.py DEFECT --config FILE``.

Each defect is a mistake that real gateways and breaker libraries make, put in the place of the method that does it
right; everything else is the gateway as it is.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from tidegate import cli
from tidegate.core.delivery.feed import Feed
from tidegate.core.delivery.hub import Hub
from tidegate.core.delivery.retained import Name, Retained
from tidegate.core.events import Draft, Event, Position
from tidegate.core.instant import Instant
from tidegate.core.polling import outcome
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import State, Transition
from tidegate.core.polling.catching_up import CatchingUp
from tidegate.core.polling.counting import Counting
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.outcome import ClassifyPolicy, Fault, Verdict
from tidegate.core.polling.permit import NoPermit, Permit
from tidegate.core.polling.source_values import Update
from tidegate.errors import MappingFailed


def plant(owner: object, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of the function `name` of `owner` in its place."""
    setattr(owner, name, make(getattr(owner, name)))


def stale_flag_missing() -> None:
    """Stale data does not say so."""

    def without_flag(right: Callable[..., Draft]) -> Callable[..., Draft]:
        def draft(*args: Any, **kwargs: Any) -> Draft:
            made = right(*args, **kwargs)
            return msgspec.structs.replace(made, stale=None) if made.stale else made

        return draft

    plant(Freshness, "_draft", without_flag)


def breaker_never_opens() -> None:
    """Failures are counted, and nothing follows."""
    plant(Counting, "_reason_to_open", lambda right: lambda self: None)


def error_overwrites_the_cache() -> None:
    """What a failed call brought takes the place of the last good value."""

    def overwriting(right: Callable[..., Update]) -> Callable[..., Update]:
        def failed(self: Freshness, request: int, **about: Any) -> Update:
            self._held.items = {None: msgspec.Raw(msgspec.json.encode({"error": about["code"]}))}
            return right(self, request, **about)

        return failed

    plant(Freshness, "failed", overwriting)


def no_snapshot() -> None:
    """New subscribers wait for the next event."""
    plant(Retained, "snapshot", lambda right: lambda self, name, now: None)


def probe_stampede() -> None:
    """Whoever asks while it is half-open is a probe (purgatory, aiobreaker, circuitbreaker, hyx)."""

    def admitting(right: Callable[..., NoPermit | None]) -> Callable[..., NoPermit | None]:
        def refusal(self: Breaker, now: Instant, **about: Any) -> NoPermit | None:
            return None if self.view().state is State.HALF_OPEN else right(self, now, **about)

        return refusal

    def wanting(right: property) -> property:
        def probe_at_mono(self: Breaker) -> float | None:
            wanted_at: float | None = right.__get__(self)
            return self._data.since.mono if self.view().state is State.HALF_OPEN else wanted_at

        return property(probe_at_mono)

    plant(Breaker, "refusal", admitting)
    plant(Breaker, "probe_at_mono", wanting)


def late_result_closes_the_breaker() -> None:
    """A success counts whenever its call was admitted (purgatory, hyx)."""
    plant(Breaker, "_counts", lambda right: lambda self, permit, now: True)


def no_knocking() -> None:
    """A backend that can be reached again waits for the end of the open period."""
    plant(Breaker, "knocks_from_mono", lambda right: lambda self, now: None)


def knocking_at_a_sick_backend() -> None:
    """That a connection can be made is taken for news also where it always could."""

    def hoping(right: Callable[..., float | None]) -> Callable[..., float | None]:
        def knocks_from_mono(self: Breaker, now: Instant) -> float | None:
            self._data.unreachable = True
            return right(self, now)

        return knocks_from_mono

    plant(Breaker, "knocks_from_mono", hoping)


def no_catching_up() -> None:
    """After a recovery each source waits for its own tick."""
    plant(CatchingUp, "begin", lambda right: lambda self, *args, **about: None)


def catching_up_without_a_cap() -> None:
    """After a recovery everything is asked at once."""

    def unlimited(right: Callable[..., None]) -> Callable[..., None]:
        def made(self: CatchingUp, *, rate_per_s: float, connections: int) -> None:
            right(self, rate_per_s=1e6, connections=connections)

        return made

    plant(CatchingUp, "__init__", unlimited)


def silent_drop() -> None:
    """Every tenth event gets lost on its way to the clients, and nobody is told."""

    def dropping(right: Callable[..., int]) -> Callable[..., int]:
        def publish(self: Hub, event: Event) -> int:
            return 0 if event.seq is not None and event.seq % 10 == 0 else right(self, event)

        return publish

    plant(Hub, "publish", dropping)


def as_of_refreshed_by_a_failure() -> None:
    """The last good value grows younger with each failed call."""

    def refreshing(right: Callable[..., Update]) -> Callable[..., Update]:
        def failed(self: Freshness, request: int, **about: Any) -> Update:
            self._held.sent = about["now"]
            return right(self, request, **about)

        return failed

    plant(Freshness, "failed", refreshing)


def failed_mapping_counts() -> None:
    """An answer that a source cannot use is held against the backend."""

    def blaming(right: Callable[..., Fault]) -> Callable[..., Fault]:
        def fault(error: BaseException, policy: ClassifyPolicy) -> Fault:
            told = right(error, policy)
            return msgspec.structs.replace(told, verdict=Verdict.FAILURE) if isinstance(error, MappingFailed) else told

        return fault

    plant(outcome, "_fault", blaming)


def probe_that_blames_our_call_decides_nothing() -> None:
    """A backend that answers a probe that the request is wrong is not taken for one that is back."""

    def undecided(right: Callable[..., Transition | None]) -> Callable[..., Transition | None]:
        def record(self: Breaker, permit: Permit, verdict: Verdict, **about: Any) -> Transition | None:
            return right(self, permit, Verdict.IGNORED if verdict is Verdict.ALIVE else verdict, **about)

        return record

    plant(Breaker, "record", undecided)


def synced_too_early() -> None:
    """That all is handed over is said before it is."""

    def hasty(right: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
        def frames(
            self: Feed, head: bytes, names: list[Name], position: Position, synced_from: int | None
        ) -> Iterator[bytes]:
            rest = right(self, head, names, position, synced_from)
            yield next(rest)
            if synced_from is not None:
                yield self._synced(position.seq)
            yield from (frame for frame in rest if b'"type":"synced"' not in frame)

        return frames

    plant(Feed, "_generate", hasty)


DEFECTS: Final[dict[str, Callable[[], None]]] = {
    defect.__name__: defect
    for defect in (
        stale_flag_missing,
        breaker_never_opens,
        error_overwrites_the_cache,
        no_snapshot,
        probe_stampede,
        late_result_closes_the_breaker,
        no_knocking,
        knocking_at_a_sick_backend,
        no_catching_up,
        catching_up_without_a_cap,
        silent_drop,
        as_of_refreshed_by_a_failure,
        failed_mapping_counts,
        probe_that_blames_our_call_decides_nothing,
        synced_too_early,
    )
}

if __name__ == "__main__":
    DEFECTS[sys.argv[1]]()
    sys.exit(cli.main(["serve", *sys.argv[2:]]))
