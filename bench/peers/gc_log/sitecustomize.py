"""For a Python with this folder in its PYTHONPATH: writes each run of the garbage collector to BENCH_GC_LOG.

A line is the time of its end in seconds (monotonic), the generation, and microseconds.
"""

import gc
import os
import time
from pathlib import Path


class Log:
    """What `gc.callbacks` calls before and after each run."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="ascii")
        self._began_ns = 0

    def __call__(self, phase: str, about: dict[str, int]) -> None:
        now_ns = time.monotonic_ns()
        if phase == "start":
            self._began_ns = now_ns
        else:
            self._file.write(f"{now_ns / 1e9:.6f} {about['generation']} {(now_ns - self._began_ns) / 1000:.1f}\n")


gc.callbacks.append(Log(Path(os.environ["BENCH_GC_LOG"])))
