"""What came of a reload of the configuration, as answers, records and commands show it."""

from typing import Literal

import msgspec

from tidegate.core.instant import Instant
from tidegate.errors import Problem

ReloadOutcome = Literal["changed", "unchanged", "refused", "error"]
"""What came of one attempt.

``changed``: the new configuration is in force, ``unchanged``: it is equal to the old one, ``refused``: it has problems,
``error``: the attempt failed for another reason. After ``refused`` and ``error``, the old one is in force.
"""


class ChangedNames(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two configurations, sorted.

    `added` and `removed` are backends, sources and tokens, as in ``backends.engine``, ``sources."disk.usage"`` and
    ``auth.tokens[0]``. `changed` are keys that are in both with another value, as in ``limits.event_bytes``.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a reload that was carried out.

    `unchanged` is how many backends and sources go on untouched. `needs_restart` are the keys whose values in the file
    are not in force until the gateway is restarted. `config_hash` is equal for equal configurations, and tells nothing
    else about them.
    """

    changed: ChangedNames
    unchanged: int
    needs_restart: tuple[str, ...]
    config_hash: str


class ReloadAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to reload. `began` is a time before the file was read.

    `reloaded` is the answer, None if nothing was changed because of `problems`.
    """

    began: Instant
    ended: Instant
    outcome: ReloadOutcome
    reloaded: Reloaded | None = None
    problems: tuple[Problem, ...] = ()
