"""How refusals are counted and logged, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from house import LoopClock
from simulation.virtual import VirtualLoop
from structlog.testing import capture_logs

from tidegate.errors import RefusalReason
from tidegate.runtime.refusals import SUMMARY_S, Refusals
from tidegate.testing import RecordingMetrics

Lines = list[tuple[float, str, str, int]]


def lines_of(script: Callable[[Refusals], Coroutine[Any, Any, None]]) -> tuple[RecordingMetrics, Lines]:
    """What is counted while `script` runs, and the log: when, reason, address and count of each line."""
    metrics, told = RecordingMetrics(), Lines()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        refusals = Refusals(metrics, LoopClock())
        seen = 0
        with capture_logs() as captured:

            def note_new() -> None:
                nonlocal seen
                for line in captured[seen:]:
                    assert (line["event"], line["log_level"]) == ("refused", "info")
                    told.append((round(loop.time()), line["reason"], line["address"], line["count"]))
                seen = len(captured)

            running = asyncio.create_task(script(refusals))
            while not running.done():
                await asyncio.sleep(1)
                note_new()
            await running
            refusals.close()
            note_new()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    began = told[0][0] if told else 0
    return metrics, [(at - began, reason, address, count) for at, reason, address, count in told]


def test_a_flood_is_a_line_at_once_and_one_a_minute_with_its_number() -> None:
    async def flood(refusals: Refusals) -> None:
        for n in range(1000):
            refusals.note("websocket", RefusalReason.BAD_TOKEN, f"192.0.2.{n % 250}")
            await asyncio.sleep(0.1)

    metrics, lines = lines_of(flood)
    assert len(metrics.named("request_refused")) == 1000
    assert [count for *_, count in lines] == [1, 599, 400]
    assert [at for at, *_ in lines][1] in range(int(SUMMARY_S) - 1, int(SUMMARY_S) + 3)
    assert {(reason, address) for _, reason, address, _ in lines[:1]} == {("bad_token", "192.0.2.0")}
    assert lines[-1][2] == "192.0.2.249"


def test_each_reason_has_a_line_of_its_own_and_after_a_quiet_minute_the_next_is_told_at_once() -> None:
    async def some(refusals: Refusals) -> None:
        refusals.note("http", RefusalReason.HOST, "192.0.2.1")
        refusals.note("sse", RefusalReason.ORIGIN, "192.0.2.2")
        await asyncio.sleep(SUMMARY_S + 2)
        refusals.note("http", RefusalReason.HOST, "192.0.2.3")
        await asyncio.sleep(10)

    metrics, lines = lines_of(some)
    assert [line[1:] for line in lines] == [
        ("host", "192.0.2.1", 1),
        ("origin", "192.0.2.2", 1),
        ("host", "192.0.2.3", 1),
    ]
    assert lines[-1][0] < SUMMARY_S + 5
    assert metrics.named("request_refused") == [
        ("http", RefusalReason.HOST),
        ("sse", RefusalReason.ORIGIN),
        ("http", RefusalReason.HOST),
    ]
