import os
import subprocess

import psutil

from tidegate.engine.processes import MIB, ProcessMeter


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
