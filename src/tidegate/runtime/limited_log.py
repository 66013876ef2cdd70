"""Writes lines to the log at a limited rate, so that what happens often does not hide the rest.

There are two kinds. A `LoggedFault` lasts: it is said when it begins, once a minute while it lasts, and when it is
over. `LimitedLines` are about things that happen and are done, such as clients that connect: the first ones in a minute
get a line each, the others a summary. What got no line is counted, by the name of the event.

Each is for one thread. A `LoggedFault` of a thread without an event loop has no `call_at`: what was left out is said
when it occurs again, or is fine.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, Self

import structlog

from tidegate.core.log_events import EVERY_S, FaultLine, LimitedEvent, OverLine, RepeatingFault
from tidegate.core.measurements import LogLineSuppressed, Measurement
from tidegate.ports import Clock, Timer

Level = Literal["info", "warning", "error"]

Observe = Callable[[Measurement], None]
"""`Metrics.observe`, or a function with the same signature."""

CallAt = Callable[[float, Callable[[], None]], Timer]
"""`Clock.call_at`, or a function with the same signature."""

LOUDEST_OF = 1000
"""How many different values of a field are counted in a minute to find the most frequent one."""


class LoggedFault:
    """One fault that may go on or come back. Its end is logged as the event `over`, at the level info.

    Lines say `suppressed` (occurrences since the line before that got none) and `for_s`; the last one says `after_s`
    and `times`. Otherwise they have the fields of the newest occurrence.
    """

    def __init__(
        self,
        logger: str,
        event: LimitedEvent,
        *,
        over: str,
        now: Callable[[], float],
        call_at: CallAt | None = None,
        observe: Observe = lambda _: None,
        level: Level = "warning",
    ) -> None:
        self._log = structlog.get_logger(logger)
        self._event = event
        self._over = over
        self._now = now
        self._call_at = call_at
        self._observe = observe
        self._level = level
        self._rule = RepeatingFault()
        self._timer: Timer | None = None
        self._fields: dict[str, Any] = {}

    @classmethod
    def by(
        cls,
        clock: Clock,
        logger: str,
        event: LimitedEvent,
        *,
        over: str,
        observe: Observe = lambda _: None,
        level: Level = "warning",
    ) -> Self:
        """Make one that goes by `clock`."""
        now = _mono_of(clock)
        return cls(logger, event, over=over, now=now, call_at=clock.call_at, observe=observe, level=level)

    @property
    def is_there(self) -> bool:
        """Whether it has occurred, and is not over."""
        return self._rule.is_there

    def occurred(self, **fields: Any) -> None:
        """It occurred. `fields` describe it in the log."""
        self._fields = fields
        line = self._rule.occurred(self._now())
        if line is not None:
            self._write(line)
        else:
            self._observe(LogLineSuppressed(self._event))
            self._look_later()

    def fine(self, **fields: Any) -> None:
        """What failed before has gone well. `fields` are for the line about the end. Cheap if called often."""
        line = self._rule.fine(self._now())
        if line is not None:
            self._write(line, **fields)

    def _look_later(self) -> None:
        if self._timer is None and self._rule.look_at is not None and self._call_at is not None:
            self._timer = self._call_at(self._rule.look_at, self._look)

    def _look(self) -> None:
        self._timer = None
        line = self._rule.look(self._now())
        if line is not None:
            self._write(line)
        self._look_later()

    def _write(self, line: FaultLine | OverLine, **fields: Any) -> None:
        if isinstance(line, OverLine):
            self._log.info(self._over, **fields, after_s=line.after_s, times=line.times)
        elif line.since_s:
            counts = {"for_s": line.since_s, "suppressed": line.suppressed}
            getattr(self._log, self._level)(self._event.value, **self._fields, **counts)
        else:
            getattr(self._log, self._level)(self._event.value, **self._fields)


class LimitedLines:
    """Lines of one event. Call `close` at the end.

    In a minute that begins with a line, the first `whole` occurrences get a line each. The others are summed up at the
    end of that minute in one line, which counts as one of those of the next: `suppressed` is how many there were, and
    `by_FIELD` how many for each value of the field `by`, which has few values. Of the field `loudest`, which may have
    many, the most frequent value is said, and in `loudest_count` how often it came.
    """

    def __init__(
        self,
        logger: str,
        event: LimitedEvent,
        *,
        clock: Clock,
        observe: Observe = lambda _: None,
        whole: int = 1,
        level: Level = "info",
        by: str | None = None,
        loudest: str | None = None,
    ) -> None:
        self._write = getattr(structlog.get_logger(logger), level)  # looked up once: structlog takes long to find it
        self._event = event
        self._clock = clock
        self._observe = observe
        self._whole = whole
        self._left = whole
        self._by = by
        self._loudest = loudest
        self._timer: Timer | None = None
        self._suppressed = 0
        self._counts: Counter[str] = Counter()
        self._loud: Counter[str] = Counter()

    def say(self, **fields: Any) -> None:
        """It happened. `fields` describe it in the log."""
        if self._timer is None:
            self._begin(self._whole)
        if self._left:
            self._left -= 1
            self._write(self._event.value, **fields)
            return
        self._suppressed += 1
        self._observe(LogLineSuppressed(self._event))
        if self._by is not None:
            self._counts[str(fields.get(self._by))] += 1
        if self._loudest is not None:
            value = str(fields.get(self._loudest))
            if value in self._loud or len(self._loud) < LOUDEST_OF:
                self._loud[value] += 1

    def close(self) -> None:
        """Say what has not been said yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sum_up()

    def _begin(self, left: int) -> None:
        self._left = left
        self._timer = self._clock.call_at(self._clock.now().mono + EVERY_S, self._end)

    def _end(self) -> None:
        self._timer = None
        if self._suppressed:
            self._sum_up()
            self._begin(self._whole - 1)

    def _sum_up(self) -> None:
        if not self._suppressed:
            return
        fields: dict[str, Any] = {"suppressed": self._suppressed}
        if self._by is not None:
            fields[f"by_{self._by}"] = dict(self._counts.most_common())
        if self._loudest is not None:
            ((value, count),) = self._loud.most_common(1)
            fields |= {self._loudest: value, "loudest_count": count}
        self._write(self._event.value, **fields)
        self._suppressed = 0
        self._counts.clear()
        self._loud.clear()


def _mono_of(clock: Clock) -> Callable[[], float]:
    return lambda: clock.now().mono
