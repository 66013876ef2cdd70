"""Fakes of what a gateway keeps in its state directory for those who ask it to reload."""

from dataclasses import dataclass, field

from tidegate.core.instant import Instant
from tidegate.core.reloads import ChangedNames, ReloadAttempt, Reloaded
from tidegate.errors import Problem

HASH = "0123456789abcdef"
LOADED = Instant(0.0, 1_795_383_603.0)

DONE = Reloaded(
    changed=ChangedNames(added=('sources."a.b"',), removed=("backends.old",), changed=("limits.patterns",)),
    unchanged=7,
    needs_restart=("server.port",),
    config_hash=HASH,
)
PROBLEMS = (Problem("server.port", "a number", '"x"'), Problem("nope", "a known key", "an unknown one"))


@dataclass
class FakeReloads:
    """Answers with `DONE`, or fails with `error`, which is raised `times` and then no more."""

    error: Exception | None = None
    times: int = 1_000_000
    last: ReloadAttempt | None = None
    config_hash: str = HASH
    loaded_at: Instant = LOADED
    needs_restart: tuple[str, ...] = ()
    asked: list[None] = field(default_factory=list)

    async def reload(self) -> Reloaded:
        self.asked.append(None)
        if self.error is not None and len(self.asked) <= self.times:
            raise self.error
        return DONE
