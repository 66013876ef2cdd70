"""Measures memory and CPU of processes, rounded coarsely, so that an idle process does not seem to change."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import psutil

from tidegate.engine.rates import RateMeter
from tidegate.engine.threads import in_thread

MIB = 1024 * 1024


class ProcessUsage(NamedTuple):
    """Resident memory in bytes, a multiple of 1 MiB, and CPU in whole percent of one processor.

    CPU is None at the first measurement of a process.
    """

    memory_bytes: int
    cpu_percent: int | None


class ProcessMeter:
    """Measures processes by their ids. CPU is measured since the last call of `measure`, by any caller."""

    def __init__(self) -> None:
        self._cpu: RateMeter[int] = RateMeter()

    async def measure(self, pids: Sequence[int]) -> Mapping[int, ProcessUsage]:
        """Return the usage of each of `pids`. Processes that have ended are left out."""
        now, readings = await in_thread(partial(_read, pids))
        rates = self._cpu.measure({pid: cpu_s for pid, (_, cpu_s) in readings.items()}, now=now)
        return {
            pid: ProcessUsage(memory // MIB * MIB, cpu_percent(rates[pid])) for pid, (memory, _) in readings.items()
        }


def cpu_percent(rate: float | None) -> int | None:
    """Convert CPU seconds per second to whole percent. 1 % is only a few ticks of the kernel's clock and becomes 0."""
    percent = None if rate is None else round(100 * rate)
    return 0 if percent == 1 else percent


def _read(pids: Sequence[int]) -> tuple[float, Mapping[int, tuple[int, float]]]:
    readings = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                readings[pid] = process.memory_info().rss, times.user + times.system
        except psutil.Error:
            continue
    return time.monotonic(), readings
