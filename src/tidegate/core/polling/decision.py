"""What the rules decided, as values: what to publish, to save, to log and to measure.

The runtime carries a `Decision` out. The decision also names what counts as told once its drafts are published, so it
is given back then: see `tidegate.core.polling.backend_state.BackendState.taken` and `refused`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from tidegate.core.events import Draft
from tidegate.core.measurements import Measurement
from tidegate.core.polling.breaker_values import BreakerGone, Transition
from tidegate.core.polling.episodes import Report
from tidegate.core.polling.source_values import Told


class SavedValue(msgspec.Struct, frozen=True):
    """A row on disk with a source's last good value. `key` is "" if the type has no keys; `as_of` is Unix time."""

    type: str
    key: str
    data: bytes
    as_of: float


class Save(msgspec.Struct, frozen=True):
    """Values to keep on disk, and the (type, key) pairs of values to delete."""

    values: list[SavedValue]
    gone: list[tuple[str, str]]


class Note(msgspec.Struct, frozen=True):
    """A line for the log."""

    level: Literal["debug", "info", "warning"]
    event: str
    fields: Mapping[str, Any]


class Decision(msgspec.Struct):
    """Everything that follows from one thing that happened.

    `drafts` are published in one go, the moves of breakers first. `told`, `moves` and `reports` are what those drafts
    say; `told` and `reports` name the source. `refreshed` is the newer `as_of`, in Unix seconds, of values that did not
    change: it applies once all drafts up to these are published. Everything else is carried out at once. `epoch` counts
    the epochs since the process started: a decision of an earlier epoch may yet be published in this one, but whether
    it is taken or refused, all that it tells is owed again. `left` are the sources that it says are
    gone, by type.
    """

    drafts: list[Draft] = []
    told: dict[str, Told] = {}
    moves: list[Transition | BreakerGone] = []
    left: list[str] = []
    reports: list[tuple[str, Report]] = []
    refreshed: dict[str, float] = {}
    saves: list[Save] = []
    notes: list[Note] = []
    measurements: list[Measurement] = []
    epoch: int = 0
