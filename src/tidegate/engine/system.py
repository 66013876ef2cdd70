"""``system.status``: CPU, memory, load and network of this machine, from psutil."""

import socket
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec
import psutil

from tidegate.engine.rates import RateMeter
from tidegate.engine.threads import in_thread


class Memory(msgspec.Struct, frozen=True):
    """Main memory. `percent` is the share that is not available to programs."""

    total_bytes: int
    used_bytes: int
    available_bytes: int
    percent: float


class Swap(msgspec.Struct, frozen=True):
    """Swap space; all zero if there is none."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    percent: float


class Interface(msgspec.Struct, frozen=True):
    """One network interface. A rate is null while it is unknown: at the first call, or after a counter restarted."""

    name: str
    rx_bytes: int
    tx_bytes: int
    rx_bytes_per_s: float | None
    tx_bytes_per_s: float | None


class Network(msgspec.Struct, frozen=True):
    """The sum of all interfaces except loopback. A rate is the sum of the known rates, or null if none is known."""

    rx_bytes: int
    tx_bytes: int
    rx_bytes_per_s: float | None
    tx_bytes_per_s: float | None
    interfaces: list[Interface]


class SystemStatus(msgspec.Struct, frozen=True):
    """The status of the machine at one moment.

    `cpu_percent` is the usage of all CPUs together, 0 to 100, since the last call; null at the first call. `load` is
    the average number of runnable processes over the last 1, 5 and 15 minutes. `uptime_s` is that of the machine.
    """

    hostname: str
    uptime_s: float
    cpu_percent: float | None
    cpu_count: int
    memory: Memory
    swap: Swap
    load: Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]
    network: Network


class Traffic(NamedTuple):
    """The bytes that one interface has received and sent since it came up."""

    rx_bytes: int
    tx_bytes: int


class SystemMonitor:
    """Answers ``system.status``. Rates are measured since the last call, by any caller."""

    def __init__(self) -> None:
        self._cpu: RateMeter[str] = RateMeter()
        self._network: RateMeter[tuple[str, str]] = RateMeter()

    async def status(self) -> SystemStatus:
        """CPU, memory, load and network of this machine, now."""
        reading = await in_thread(_read)
        return SystemStatus(
            hostname=reading.hostname,
            uptime_s=round(reading.uptime_s, 1),
            cpu_percent=cpu_percent(self._cpu.measure(reading.cpu_times_s, now=reading.at)),
            cpu_count=reading.cpu_count,
            memory=reading.memory,
            swap=reading.swap,
            load=reading.load,
            network=network(reading.traffic, self._network.measure(network_counters(reading.traffic), now=reading.at)),
        )


def cpu_percent(rates: Mapping[str, float | None]) -> float | None:
    """Return the busy share of the CPU time in percent, from the rates of ``busy`` and ``idle`` CPU seconds."""
    busy, idle = rates["busy"], rates["idle"]
    if busy is None or idle is None or busy + idle == 0:
        return None
    return round(100 * busy / (busy + idle), 1)


def network_counters(traffic: Mapping[str, Traffic]) -> dict[tuple[str, str], float]:
    """Return the counters of all interfaces, in the form that `RateMeter` takes."""
    received = {(name, "rx"): float(bytes_.rx_bytes) for name, bytes_ in traffic.items()}
    return received | {(name, "tx"): float(bytes_.tx_bytes) for name, bytes_ in traffic.items()}


def network(traffic: Mapping[str, Traffic], rates: Mapping[tuple[str, str], float | None]) -> Network:
    """Return the interfaces and their sum, from their counters and the rates of `network_counters`."""
    interfaces = [
        Interface(name, carried.rx_bytes, carried.tx_bytes, _rounded(rates[name, "rx"]), _rounded(rates[name, "tx"]))
        for name, carried in sorted(traffic.items())
    ]
    return Network(
        rx_bytes=sum(interface.rx_bytes for interface in interfaces),
        tx_bytes=sum(interface.tx_bytes for interface in interfaces),
        rx_bytes_per_s=_sum_of_known(interface.rx_bytes_per_s for interface in interfaces),
        tx_bytes_per_s=_sum_of_known(interface.tx_bytes_per_s for interface in interfaces),
        interfaces=interfaces,
    )


class _Reading(NamedTuple):
    """All readings from psutil. `at` is their monotonic time in seconds."""

    at: float
    hostname: str
    uptime_s: float
    cpu_times_s: Mapping[str, float]
    cpu_count: int
    memory: Memory
    swap: Swap
    load: list[float]
    traffic: Mapping[str, Traffic]


def _read() -> _Reading:
    return _Reading(
        at=time.monotonic(),
        cpu_times_s=_cpu_times_s(),
        traffic=_traffic(),
        hostname=socket.gethostname(),
        uptime_s=max(0.0, time.time() - psutil.boot_time()),
        cpu_count=psutil.cpu_count() or 1,
        memory=_memory(),
        swap=_swap(),
        load=[round(load, 2) for load in psutil.getloadavg()],
    )


def _cpu_times_s() -> dict[str, float]:
    times = psutil.cpu_times()
    # `user` and `nice` already contain the time of guests.
    busy = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
    return {"busy": busy, "idle": times.idle + times.iowait}


def _traffic() -> dict[str, Traffic]:
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    loopback = {name for name, stats in psutil.net_if_stats().items() if "loopback" in stats.flags.split(",")}
    return {
        name: Traffic(count.bytes_recv, count.bytes_sent) for name, count in counters.items() if name not in loopback
    }


def _memory() -> Memory:
    memory = psutil.virtual_memory()
    return Memory(memory.total, memory.used, memory.available, memory.percent)


def _swap() -> Swap:
    swap = psutil.swap_memory()
    return Swap(swap.total, swap.used, swap.free, swap.percent)


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)


def _sum_of_known(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return round(sum(known), 1) if known else None
