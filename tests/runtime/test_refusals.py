"""How refusals are counted and logged, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from house import LoopClock
from simulation.virtual import VirtualLoop
from structlog.testing import capture_logs

from tidegate.errors import RefusalReason
from tidegate.runtime.refusals import WHOLE, Refusals
from tidegate.testing import RecordingMetrics


def told(script: Callable[[Refusals], Coroutine[Any, Any, None]]) -> tuple[Refusals, RecordingMetrics, list[Any]]:
    """The refusals after `script`, what was measured, and the lines of the log."""
    metrics, made = RecordingMetrics(), []

    async def main() -> None:
        refusals = Refusals(metrics, LoopClock())
        made.append(refusals)
        await script(refusals)
        refusals.close()

    with capture_logs() as captured, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert {line["event"] for line in captured} <= {"refused"}
    return made[0], metrics, captured


def test_who_guesses_tokens_is_read_from_the_summaries_of_a_minute() -> None:
    async def guessing(refusals: Refusals) -> None:
        for n in range(1000):
            refusals.note("http", RefusalReason.BAD_TOKEN, "203.0.113.7", f"guess-{n}")
            refusals.note("websocket", RefusalReason.BAD_TOKEN, f"192.0.2.{n % 250}", f"other-{n}")
            refusals.note("websocket", RefusalReason.MAX_CLIENTS, f"192.0.2.{n % 250}", f"full-{n}")
            await asyncio.sleep(0.1)

    refusals, metrics, lines = told(guessing)
    assert len(metrics.named("request_refused")) == 3000
    assert refusals.counts[RefusalReason.BAD_TOKEN] == 2000
    whole = [line for line in lines if line.get("reason") == "bad_token"]
    assert [line["request_id"] for line in whole[:WHOLE]] == ["guess-0", "other-0", "guess-1", "other-1", "guess-2"]
    assert all(line["address"] and line["transport"] for line in whole)
    sums = [line for line in lines if "bad_token" in line.get("by_reason", {})]
    assert [line["address"] for line in sums] == ["203.0.113.7"] * 2
    assert sum(line["suppressed"] for line in sums) + len(whole) == 2000
    assert 590 <= sums[0]["loudest_count"] <= 600
    assert len(lines) < 4 * (WHOLE + 2)


def test_a_flood_for_one_reason_hides_no_other() -> None:
    async def some(refusals: Refusals) -> None:
        for _ in range(100):
            refusals.note("http", RefusalReason.HOST, "192.0.2.1")
        refusals.note("sse", RefusalReason.ORIGIN, "192.0.2.2", "r7")
        await asyncio.sleep(62)

    _, metrics, lines = told(some)
    assert [line for line in lines if line.get("reason") == "origin"] == [
        {
            "event": "refused",
            "log_level": "info",
            "reason": "origin",
            "transport": "sse",
            "address": "192.0.2.2",
            "request_id": "r7",
        }
    ]
    assert len(metrics.named("log_line_suppressed")) == 100 - WHOLE


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        (RefusalReason.BAD_TOKEN, "warning"),
        (RefusalReason.MAX_CLIENTS, "warning"),
        (RefusalReason.NO_TOKEN, "info"),
        (RefusalReason.MALFORMED, "info"),
    ],
)
def test_it_is_a_warning_if_somebody_guesses_or_there_is_no_room(reason: RefusalReason, level: str) -> None:
    async def script(refusals: Refusals) -> None:
        for _ in range(10):
            refusals.note("http", reason, "192.0.2.1")

    _, _, lines = told(script)
    assert {line["log_level"] for line in lines} == {level}
