"""Which label values there are: those of an enumeration, the names of the configuration, and a few invented types.

Nothing that a client, a publisher or a message says becomes a label value, except event types up to a limit.
"""

from collections.abc import Collection, Iterator
from itertools import product

import msgspec

from tidegate.core.access.series import OTHER
from tidegate.core.topics import BUILT_IN_TYPES
from tidegate.outbound.metrics.family import Family, Label, Names

INVENTED_TYPES = 256
"""How many event types get their own label value, in addition to the configured and built-in ones."""


class ConfiguredNames(msgspec.Struct, frozen=True, kw_only=True):
    """The names of a configuration. `sources` are pairs: the type of a source, and its backend."""

    sources: tuple[tuple[str, str], ...] = ()
    backends: tuple[str, ...] = ()
    breakers: tuple[str, ...] = ()


NO_NAMES = ConfiguredNames()


class KnownNames:
    """The names that label values may have now. `configured` may change: see `follow`."""

    def __init__(self, configured: ConfiguredNames) -> None:
        self._invented: set[str] = set()
        self._removed: set[str] = set()
        self._backend_of: dict[str, str] = {}
        self._take(configured)

    def follow(self, configured: ConfiguredNames) -> None:
        """Take the names of another configuration. Nothing is counted for a type that it has no longer.

        Its last events may be yet to come, and the gateway lets no publisher use the type.
        """
        before = set(self._backend_of)
        self._take(configured)
        self._removed = (self._removed | before) - set(self._backend_of)
        self._invented -= set(self._backend_of)

    def label_values(self, family: Family, values: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the label values that stand for `values`; None if there is to be no such series."""
        shown = []
        for label, value in zip(family.labels, values, strict=True):
            found = self._label_value(label, value)
            if found is None:
                return None
            shown.append(found)
        return tuple(shown)

    def initial(self, family: Family) -> Iterator[tuple[str, ...]]:
        """Yield the label values of every series that `family` has from the start."""
        polled = [label.names for label in family.labels[:2]] == ["source", "backend"]
        if not polled:
            yield from product(*map(self._values, family.labels))
            return
        # Each source has one backend.
        for pair in self._backend_of.items():
            for others in product(*map(self._values, family.labels[2:])):
                yield (*pair, *others)

    def _take(self, configured: ConfiguredNames) -> None:
        self._backend_of = dict(configured.sources)
        self._names: dict[Names, Collection[str]] = {
            "source": self._backend_of.keys(),
            "event": dict.fromkeys([*self._backend_of, *sorted(BUILT_IN_TYPES)]),
            "backend": dict.fromkeys(configured.backends),
            "breaker": dict.fromkeys(configured.breakers),
            "build": (),
        }

    def _values(self, label: Label) -> Collection[str]:
        return label.values if label.names is None else self._names[label.names]

    def _label_value(self, label: Label, value: str) -> str | None:
        if label.names == "build":
            return value
        if label.names is None:
            return value if value in label.values else OTHER
        if value in self._names[label.names]:
            return value
        return self._event_type(value) if label.names == "event" else None

    def _event_type(self, value: str) -> str | None:
        if value in self._removed:
            return None
        if value != OTHER and value not in self._invented:
            if len(self._invented) >= INVENTED_TYPES:
                return OTHER
            self._invented.add(value)
        return value
