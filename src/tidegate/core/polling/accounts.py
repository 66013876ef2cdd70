"""When sources whose account was refused are asked again before their wait is over.

Only two things end such a wait early: another secret than the one that was refused, and a poke, which comes seldom.
Even then one source tries first, and the others follow when it was answered: many attempts may lock an account.

Times are monotonic.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.source import Source

READ_EVERY_S = 1.0
"""How often the secret is read while a source waits, in seconds."""

POKE_EVERY_S = 60.0
"""How often a poke ends a wait, in seconds."""


class Accounts:
    """The waits of the `sources` of one backend. Nobody can ask a source that `is_barred`, so it is not the trial."""

    def __init__(self, sources: Collection[Source], *, is_barred: Callable[[Source], bool]) -> None:
        self._refused = dict.fromkeys(source for source in sources if source.calls.refusals)
        self._is_barred = is_barred
        self._trial: Source | None = None
        self._read_at = LONG_AGO
        self._poked_at = LONG_AGO

    def follow(self, successors: Mapping[Source, Source | None], now: Instant) -> Source | None:
        """Sources were removed (None), or their place was taken by others, which wait as long.

        Return the one of these that tries its account: somebody has changed how it is asked.
        """
        for source, successor in successors.items():
            if source in self._refused:
                del self._refused[source]
                if successor is not None:
                    self._refused[successor] = None
            if self._trial is source:
                self._trial = None
        return self._try([each for each in successors.values() if each is not None and each.calls.waits(now)])

    def clear(self) -> None:
        """Another account may be used from now on: nobody waits."""
        for source in self._refused:
            source.calls.forget_refusals()
        self._refused.clear()
        self._trial = None

    @property
    def read_at(self) -> float | None:
        """When the secret has to be read again; None if no wait lasts that long."""
        waits_until = max((source.calls.waits_until for source in self._refused), default=LONG_AGO)
        return self._read_at if waits_until > self._read_at else None

    def reading(self, now: Instant) -> None:
        """The secret is read now."""
        self._read_at = now.mono + READ_EVERY_S

    def read(self, secret: bytes, now: Instant) -> Source | None:
        """The `secret` was read; empty if there is none. Return the source that tries it, if it is another one."""
        waiting = [source for source in self._refused if source.calls.waits(now)]
        for source in waiting:
            if not source.calls.knows_secret:  # it was refused in another process, most probably with this secret
                source.calls.refused_secret, source.calls.knows_secret = secret, True
        # Refused to one of them, it is refused to the account: the others must not try it one after the other.
        is_refused = any(source.calls.refused_secret == secret for source in waiting)
        return None if is_refused else self._try(waiting)

    def poke(self, covered: Collection[Source], now: Instant) -> Source | None:
        """Somebody says that something changed at the backend. Return the source that tries its account again."""
        waiting = [source for source in covered if source.calls.waits(now)]
        if not waiting or now.mono < self._poked_at + POKE_EVERY_S:
            return None
        self._poked_at = now.mono
        return self._try(waiting)

    def ended(self, source: Source, *, answered: bool, now: Instant) -> list[Source]:
        """A call of `source` ended. If it was the trial, and was answered, return the sources that follow now."""
        if source.calls.refusals:
            self._refused[source] = None
        else:
            self._refused.pop(source, None)
        if source is not self._trial:
            return []
        if source.calls.waits(now):  # it was refused again
            self._trial = None
        if not answered:
            return []
        self._trial = None
        following = [each for each in self._refused if each.calls.waits(now)]
        for each in following:
            each.calls.end_wait()
        return following

    def _try(self, waiting: Sequence[Source]) -> Source | None:
        able = [source for source in waiting if not self._is_barred(source)]
        if not able or (self._trial is not None and not self._is_barred(self._trial)):
            return None
        self._trial = trial = min(able, key=lambda source: source.calls.last_sent)
        trial.calls.end_wait()
        return trial
