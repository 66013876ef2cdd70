import os
import subprocess

import psutil
import pytest

from tidegate.engine.processes import MIB, ProcessMeter, cpu_percent


async def test_a_process_is_measured_in_whole_units() -> None:
    meter = ProcessMeter()
    first = (await meter.measure([os.getpid()]))[os.getpid()]
    assert first.memory_bytes % MIB == 0
    assert abs(first.memory_bytes - psutil.Process().memory_info().rss) < 64 * MIB
    assert first.cpu_percent is None


async def test_what_has_ended_is_left_out() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert (await ProcessMeter().measure([process.pid, os.getpid()])).keys() == {os.getpid()}


@pytest.mark.parametrize(("rate", "percent"), [(None, None), (0.0, 0), (0.014, 0), (0.015, 2), (0.984, 98), (1.5, 150)])
def test_a_few_ticks_of_the_clock_are_no_work(rate: float | None, percent: int | None) -> None:
    assert cpu_percent(rate) == percent
