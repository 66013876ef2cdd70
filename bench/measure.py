"""What a server took, read from outside: its CPU time, memory and system calls, over all its threads and children."""

import atexit
import contextlib
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1

AUTOGROUP = Path("/proc/self/autogroup")


def prepare_process() -> None:
    """Put this process, and what it starts from now on, on the load's core, with as many files as it may have.

    Where that is allowed it goes before everything else on the machine until it ends: in its session, and its session
    before others (the kernel weighs sessions against each other, so a process's own priority alone says little).
    """
    os.sched_setaffinity(0, {LOAD_CORE})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        before = AUTOGROUP.read_text().split()[-1]
        AUTOGROUP.write_text("-20")
        atexit.register(AUTOGROUP.write_text, before)


def family(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(map(int, children.read_text().split()))
            except OSError:
                continue
    return found


def cpu_us(pid: int) -> float:
    """Microseconds of CPU that `pid` and its descendants have taken so far, in all their threads that still run."""
    total = 0
    for process in family(pid):
        for schedstat in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                total += int(schedstat.read_text().split()[0])
            except (OSError, IndexError):
                continue
    return total / 1000


def user_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """How much of what was taken between two `ticks` was in user space, not in the kernel."""
    user, system = after[0] - before[0], after[1] - before[1]
    return user / max(1, user + system)


def ticks(pid: int) -> tuple[int, int]:
    """Ticks in user space and in the kernel of `pid` and its descendants: coarse, good for shares of seconds."""
    user = system = 0
    for process in family(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    return user, system


def core_busy_us() -> float:
    """Microseconds that the server's core has been busy since boot, with whatever it was (in steps of a tick)."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{SERVER_CORE} "))
    user, nice, system, _idle, _iowait, *others = map(int, line.split()[1:9])
    return (user + nice + system + sum(others)) * 1e6 / os.sysconf("SC_CLK_TCK")


def private_dirty_bytes(pid: int) -> int:
    """Pages that exist for `pid` and its descendants alone and hold something of their own."""
    total = 0
    for process in family(pid):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += sum(int(kib) for kib in re.findall(r"^Private_Dirty:\s+(\d+) kB", text, re.MULTILINE)) * 1024
    return total


@dataclass
class Counted:
    """System calls; None until the context has ended, or where perf cannot count them."""

    calls: int | None = None


@contextmanager
def counting_system_calls(pid: int) -> Iterator[Counted]:
    """Count the system calls of `pid` and its descendants while the context is open."""
    pids = ",".join(map(str, family(pid)))
    command = ["perf", "stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "-p", pids]
    counted = Counted()
    try:
        perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    except OSError:
        yield counted
        return
    time.sleep(0.3)  # perf says nothing when it has attached
    try:
        yield counted
    finally:
        perf.send_signal(signal.SIGINT)
        said = perf.communicate(timeout=10)[1]
        found = re.search(r"^(\d+);.*sys_enter", said, re.MULTILINE)
        counted.calls = int(found[1]) if found else None
