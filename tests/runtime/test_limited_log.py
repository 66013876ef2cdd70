"""Which lines the log gets of what happens often, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from house import LoopClock
from simulation.virtual import VirtualLoop
from structlog.testing import capture_logs

from tidegate.core.log_events import LimitedEvent
from tidegate.runtime.limited_log import LimitedLines, LoggedFault
from tidegate.testing import RecordingMetrics

REFUSED = LimitedEvent.REFUSED

Script = Callable[[LoopClock, RecordingMetrics], Coroutine[Any, Any, None]]


def run(script: Script) -> tuple[RecordingMetrics, list[dict[str, Any]]]:
    """What is counted while `script` runs, and the lines."""
    metrics = RecordingMetrics()
    with capture_logs() as lines, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(script(LoopClock(), metrics))
    return metrics, [dict(line) for line in lines]


def fault_of(clock: LoopClock, metrics: RecordingMetrics) -> LoggedFault:
    return LoggedFault.by(clock, "tidegate.test", REFUSED, over="let in again", observe=metrics.observe)


def test_a_fault_is_three_lines_and_the_others_are_counted() -> None:
    async def script(clock: LoopClock, metrics: RecordingMetrics) -> None:
        fault = fault_of(clock, metrics)
        for n in range(90):
            fault.occurred(n=n)
            await asyncio.sleep(1)
        fault.fine(path="/a")
        fault.fine(path="/a")

    metrics, lines = run(script)
    assert lines == [
        {"event": "refused", "log_level": "warning", "n": 0},
        {"event": "refused", "log_level": "warning", "n": 59, "for_s": 60.0, "suppressed": 59},
        {"event": "let in again", "log_level": "info", "path": "/a", "after_s": 90.0, "times": 90},
    ]
    assert metrics.named("log_line_suppressed") == [(REFUSED,)] * 89


def test_a_fault_that_came_back_too_soon_is_said_when_the_minute_has_passed() -> None:
    async def script(clock: LoopClock, metrics: RecordingMetrics) -> None:
        fault = fault_of(clock, metrics)
        fault.occurred()
        await asyncio.sleep(1)
        fault.fine()
        await asyncio.sleep(1)
        fault.occurred(n=2)
        await asyncio.sleep(600)

    _, lines = run(script)
    assert [line["event"] for line in lines] == ["refused", "let in again", "refused"]
    assert lines[-1] == {"event": "refused", "log_level": "warning", "n": 2, "for_s": 58.0, "suppressed": 1}


def test_the_first_occurrences_get_lines_and_the_others_a_summary() -> None:
    async def script(clock: LoopClock, metrics: RecordingMetrics) -> None:
        lines = LimitedLines(
            "tidegate.test",
            REFUSED,
            clock=clock,
            observe=metrics.observe,
            whole=2,
            by="reason",
            loudest="address",
        )
        for n in range(10):
            lines.say(reason="role" if n % 2 else "host", address="192.0.2.1" if n > 5 else f"192.0.2.{n + 10}")
        await asyncio.sleep(61)
        lines.say(reason="role", address="192.0.2.2")  # counts in the minute that the summary began
        lines.say(reason="role", address="192.0.2.3")
        lines.close()

    metrics, lines = run(script)
    assert lines == [
        {"event": "refused", "log_level": "info", "reason": "host", "address": "192.0.2.10"},
        {"event": "refused", "log_level": "info", "reason": "role", "address": "192.0.2.11"},
        {
            "event": "refused",
            "log_level": "info",
            "suppressed": 8,
            "by_reason": {"host": 4, "role": 4},
            "address": "192.0.2.1",
            "loudest_count": 4,
        },
        {"event": "refused", "log_level": "info", "reason": "role", "address": "192.0.2.2"},
        {
            "event": "refused",
            "log_level": "info",
            "suppressed": 1,
            "by_reason": {"role": 1},
            "address": "192.0.2.3",
            "loudest_count": 1,
        },
    ]
    assert len(metrics.named("log_line_suppressed")) == 9


def test_an_hour_of_floods_is_a_line_a_minute() -> None:
    async def script(clock: LoopClock, metrics: RecordingMetrics) -> None:
        lines = LimitedLines("tidegate.test", REFUSED, clock=clock, observe=metrics.observe, loudest="address")
        for n in range(36_000):
            lines.say(address=f"192.0.2.{n}")  # so many that not all of them are counted
            await asyncio.sleep(0.1)
        lines.close()

    _, lines = run(script)
    assert 60 <= len(lines) <= 62
    assert 1 + sum(line.get("suppressed", 0) for line in lines) == 36_000


def test_what_is_rare_gets_a_line_each_time() -> None:
    async def script(clock: LoopClock, metrics: RecordingMetrics) -> None:
        lines = LimitedLines("tidegate.test", REFUSED, clock=clock, observe=metrics.observe)
        for n in range(5):
            lines.say(n=n)
            await asyncio.sleep(61)
        lines.close()

    metrics, lines = run(script)
    assert [line["n"] for line in lines] == list(range(5))
    assert not metrics.named("log_line_suppressed")
