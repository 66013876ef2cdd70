"""How a metric is declared: its name, kind and labels, the question that it answers, and who may see it.

The metrics themselves are declared in `tidegate.outbound.metrics.families`. The registry is built from them, and so is
the table in docs/metrics.md.
"""

from typing import Literal

import msgspec

from tidegate.core.access.series import DECIDING

Kind = Literal["counter", "gauge", "histogram"]

Names = Literal["source", "event", "backend", "breaker", "build"]
"""Where the values of a label come from if they are no enumeration.

``source`` are the types of the configured sources, ``backend`` and ``breaker`` the configured names. ``event`` are the
sources' types, the built-in ones, and some that publishers have invented. ``build`` are texts of this program.
"""


class Label(msgspec.Struct, frozen=True):
    """A label: its name, and its possible values, or else where its values come from."""

    name: str
    values: tuple[str, ...] = ()
    names: Names | None = None


SOURCE = Label("type", names="source")
EVENT = Label("type", names="event")
BACKEND = Label("backend", names="backend")
BREAKER = Label("breaker", names="breaker")


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric with all its series. `question` is what it answers, or for whoever reads it, what it says.

    `buckets` are the upper bounds of a histogram. `shown` is for a metric without a type, a breaker or a backend: every
    token may see it, also one that is limited to some types.
    """

    name: str
    kind: Kind
    question: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    shown: bool = False

    @property
    def deciding(self) -> int | None:
        """The index of the label that decides which tokens see a series; None if there is no such label."""
        names = [label.name for label in self.labels]
        return next((names.index(name) for name in DECIDING if name in names), None)

    @property
    def base(self) -> str:
        """The name without the ``_total`` of a counter."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def unit(self) -> str:
        """The unit of its values: ``seconds``, ``bytes``, or an empty text."""
        return next((unit for unit in ("seconds", "bytes") if self.base.endswith(f"_{unit}")), "")


def counter(name: str, question: str, *labels: Label) -> Family:
    """Declare a counter."""
    return Family(name=name, kind="counter", question=question, labels=labels)


def gauge(name: str, question: str, *labels: Label, shown: bool = False) -> Family:
    """Declare a gauge."""
    return Family(name=name, kind="gauge", question=question, labels=labels, shown=shown)


def histogram(name: str, question: str, *labels: Label, buckets: tuple[float, ...]) -> Family:
    """Declare a histogram."""
    return Family(name=name, kind="histogram", question=question, labels=labels, buckets=buckets)
