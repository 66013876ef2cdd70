"""What the rules decided, as values: to be published, kept on disk, logged and measured.

Whoever runs the rules carries a `Decision` out. It also says what counts as told once its drafts are published, so
that it can be handed back either way: see `tidegate.core.backend_state.BackendState.taken` and `refused`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from tidegate.core.breaker import Transition
from tidegate.core.episodes import Report
from tidegate.core.events import Draft
from tidegate.core.freshness import Told
from tidegate.core.measurements import Measurement


class SavedValue(msgspec.Struct, frozen=True):
    """A source's last good value as it lies on disk. `key` is "" where the type has no keys; `as_of` is Unix time."""

    type: str
    key: str
    data: bytes
    as_of: float


class Save(msgspec.Struct, frozen=True):
    """Values to keep on disk, and the (type, key) pairs of those to forget."""

    values: list[SavedValue]
    gone: list[tuple[str, str]]


class Note(msgspec.Struct, frozen=True):
    """A line for the log."""

    level: Literal["info", "warning"]
    event: str
    fields: Mapping[str, Any]


class Decision(msgspec.Struct):
    """Everything that one thing which happened brings about.

    `drafts` are published in one go; the moves of breakers come first. `told`, `moves` and `reports` are what those
    drafts say, by source. `refreshed` is the newer `as_of`, in Unix seconds, of values that did not change: it is good
    as soon as all drafts up to these are published. The rest does not wait for that.
    """

    drafts: list[Draft] = []
    told: dict[str, Told] = {}
    moves: list[Transition] = []
    reports: list[tuple[str, Report]] = []
    refreshed: dict[str, float] = {}
    saves: list[Save] = []
    notes: list[Note] = []
    measurements: list[Measurement] = []
