"""The retained values of a gateway: which types are its own, what publishers may add, and what is kept on disk."""

from collections.abc import Collection

import structlog

from tidegate.core.built_in import RETAINED
from tidegate.core.delivery.retained import Name, Retained
from tidegate.core.delivery.retained_quota import RetainedQuota
from tidegate.core.events import Event, gone_draft
from tidegate.core.instant import Instant
from tidegate.ports import Clock, Store
from tidegate.runtime.event_publisher import EventPublisher
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.runtime.published_values import EXPIRED_AT_ONCE, PublishedValues

log = structlog.get_logger("tidegate.gateway")


class KeptValues:
    """`retained`, and what belongs to it: the `quota` of publishers, and what of them is on disk (`published`).

    `ours` are the types that only the gateway itself publishes. None is ever removed: nobody may take over the name of
    a removed source while clients still know it as a source's.
    """

    def __init__(
        self, options: GatewayOptions, *, publisher: EventPublisher, clock: Clock, store: Store | None
    ) -> None:
        self.ours = {*options.source_types, *RETAINED}
        self.retained = Retained([*sorted(options.source_types), *RETAINED])
        self.quota = RetainedQuota(
            self.retained, ours=self.ours, max_keys=options.retained_keys, max_bytes=options.retained_bytes
        )
        self.published = PublishedValues(self.retained, publisher, clock, options, ours=self.ours, store=store)
        self._publisher = publisher
        self._clock = clock

    def note(self, event: Event, now: Instant) -> None:
        """`event` was delivered `now`. Keep it if it is retained, or remove what it says is gone."""
        draft = event.draft
        if draft.retain or draft.gone:
            self.quota.note(draft)
            self.retained.apply(event, now)
            self.quota.forget_empty_types(draft)
            self.published.note(event, now)

    def clear(self) -> None:
        """Another epoch has begun, without any of the values."""
        self.published.clear()
        self.retained.clear()
        self.quota.clear()

    def apply(self, options: GatewayOptions) -> None:
        """Take over other limits, and those of the source types that publishers could have until now.

        What publishers have retained under the names of these types is gone.
        """
        self.quota.limit(max_keys=options.retained_keys, max_bytes=options.retained_bytes)
        taken = options.source_types - self.ours
        names = self.published.end(taken, self._clock.now())
        for event_type in taken:
            self.quota.exclude(event_type)
            self.retained.know(event_type)
            self.ours.add(event_type)
        if names:
            log.warning("published values ended, their types are polled now", types=sorted(taken), count=len(names))
            self._remove(names[:EXPIRED_AT_ONCE])

    def _remove(self, names: Collection[Name]) -> None:
        # At once, so that it comes before the first value of the source. What is left of very many, or of all if the
        # bus refuses, ends with the values that have expired.
        gone = self._publisher.hand_over([gone_draft(*name) for name in names])
        gone.outcome.add_done_callback(lambda _: gone.failure())  # asyncio logs an exception that nobody retrieves
