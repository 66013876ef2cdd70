"""A source that is polled no longer, until subscribers have been told that everything of it is gone.

Like a source, it keeps apart what was said and what was told (see `tidegate.core.polling.freshness`): if the bus
refuses what it said, it says it again.
"""

from tidegate.core.events import About, Draft
from tidegate.core.polling.drafts import NULL, gone_verdict, value_draft
from tidegate.core.polling.source_values import NOTHING_TOLD, FreshnessStatus, SourceSpec, Told


class Leaving:
    """One such source. `status` is its last verdict, `said` and `told` what its `Freshness` had said."""

    def __init__(self, spec: SourceSpec, status: FreshnessStatus, *, about: About, said: Told, told: Told) -> None:
        self.type = spec.type
        self.said = said
        self.told = told
        self._spec = spec
        self._status = status
        self._about = about

    @property
    def is_owed(self) -> bool:
        """Whether there is something to say now."""
        return self.said.may_be_held

    def say(self) -> list[Draft]:
        """Say that everything is gone: each item that was said, and the verdict."""
        gone = [value_draft(self._spec, self._status, key, NULL, gone=True, fresh_s=None) for key in self.said.items]
        if self.said.may_be_held:
            gone.append(gone_verdict(self._spec.type, self._about))
        self.said = NOTHING_TOLD
        return gone

    def taken(self, told: Told) -> None:
        """The bus has published events of this type that say `told`."""
        self.told = told

    def refused(self) -> None:
        """The bus refused what was said last."""
        self.said = self.told

    def forget_told(self) -> None:
        """Another epoch has begun. What is on its way to the bus may be published in it all the same."""
        self.said, self.told = self.said.in_another_epoch(), NOTHING_TOLD
