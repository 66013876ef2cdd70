"""A gateway with one planted defect: ``python defective_gateway.py DEFECT --config FILE``.

Each defect is a mistake that real gateways and breaker libraries make, put in the place of the method that does it
right; everything else is the gateway as it is.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tidegate import cli
from tidegate.core.breaker import Admission, Breaker, Permit, State
from tidegate.core.events import Draft, Event
from tidegate.core.freshness import Freshness, Update
from tidegate.core.hub import Hub
from tidegate.core.instant import Instant
from tidegate.core.retained import Retained


def plant(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of the method `name` of `owner` in its place."""
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
    plant(Breaker, "_reason_to_open", lambda right: lambda self: None)


def error_overwrites_the_cache() -> None:
    """What a failed call brought takes the place of the last good value."""

    def overwriting(right: Callable[..., Update]) -> Callable[..., Update]:
        def failed(self: Freshness, request: int, **about: Any) -> Update:
            self._items = {None: msgspec.Raw(msgspec.json.encode({"error": about["code"]}))}
            return right(self, request, **about)

        return failed

    plant(Freshness, "failed", overwriting)


def no_snapshot() -> None:
    """New subscribers wait for the next event."""
    plant(Retained, "snapshot", lambda right: lambda self, name, now: None)


def probe_stampede() -> None:
    """Whoever asks while it is half-open is a probe (purgatory, aiobreaker, circuitbreaker, hyx)."""

    def admitting(right: Callable[..., Admission]) -> Callable[..., Admission]:
        def permit(self: Breaker, now: Instant) -> Admission:
            if self.view().state is State.HALF_OPEN:
                return Permit(self._generation)
            return right(self, now)

        return permit

    plant(Breaker, "permit", admitting)


def late_result_closes_the_breaker() -> None:
    """A success counts whenever its call was admitted (purgatory, hyx)."""
    plant(Breaker, "_counts", lambda right: lambda self, permit, now: True)


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
            self._sent = about["now"]
            return right(self, request, **about)

        return failed

    plant(Freshness, "failed", refreshing)


DEFECTS: Final[dict[str, Callable[[], None]]] = {
    defect.__name__: defect
    for defect in (
        stale_flag_missing,
        breaker_never_opens,
        error_overwrites_the_cache,
        no_snapshot,
        probe_stampede,
        late_result_closes_the_breaker,
        silent_drop,
        as_of_refreshed_by_a_failure,
    )
}

if __name__ == "__main__":
    DEFECTS[sys.argv[1]]()
    sys.exit(cli.main(["serve", *sys.argv[2:]]))
