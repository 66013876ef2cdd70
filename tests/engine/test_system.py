import socket

import psutil
import pytest

from tidegate.engine import system
from tidegate.engine.system import Memory, Swap, SystemMonitor, Traffic, cpu_percent, network, network_counters


def reading(at: float, *, busy: float, idle: float, traffic: dict[str, Traffic]) -> system._Reading:
    return system._Reading(
        at=at,
        hostname="nas-1",
        uptime_s=12.34,
        cpu_times_s={"busy": busy, "idle": idle},
        cpu_count=2,
        memory=Memory(100, 60, 40, 60.0),
        swap=Swap(0, 0, 0, 0.0),
        load=[0.1, 0.2, 0.3],
        traffic=traffic,
    )


@pytest.mark.parametrize(
    ("busy", "idle", "percent"),
    [(1.0, 3.0, 25.0), (2.0, 0.0, 100.0), (0.0, 2.0, 0.0), (1.0, 2.0, 33.3), (None, 1.0, None), (1.0, None, None)],
)
def test_cpu_percent(busy: float | None, idle: float | None, percent: float | None) -> None:
    assert cpu_percent({"busy": busy, "idle": idle}) == percent


def test_cpu_percent_is_unknown_while_the_clock_of_the_cpu_stands() -> None:
    assert cpu_percent({"busy": 0.0, "idle": 0.0}) is None


def test_the_network_is_the_sum_of_its_interfaces_in_the_order_of_their_names() -> None:
    traffic = {"wlan0": Traffic(5, 6), "eth0": Traffic(100, 10)}
    rates = {("wlan0", "rx"): None, ("wlan0", "tx"): 0.55, ("eth0", "rx"): 2.0, ("eth0", "tx"): 3.0}
    whole = network(traffic, rates)
    assert [interface.name for interface in whole.interfaces] == ["eth0", "wlan0"]
    assert (whole.rx_bytes, whole.tx_bytes) == (105, 16)
    assert (whole.rx_bytes_per_s, whole.tx_bytes_per_s) == (2.0, 3.6)
    assert whole.interfaces[1] == system.Interface("wlan0", 5, 6, None, 0.6)


def test_a_network_of_unknown_rates_has_none() -> None:
    counters = network_counters({"eth0": Traffic(1, 2)})
    assert counters == {("eth0", "rx"): 1.0, ("eth0", "tx"): 2.0}
    assert network({"eth0": Traffic(1, 2)}, dict.fromkeys(counters)).rx_bytes_per_s is None
    assert network({}, {}) == system.Network(0, 0, None, None, [])


async def test_rates_are_measured_between_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter(
        [
            reading(10.0, busy=1.0, idle=1.0, traffic={"eth0": Traffic(1000, 100)}),
            reading(12.0, busy=2.0, idle=4.0, traffic={"eth0": Traffic(3000, 100)}),
        ]
    )
    monkeypatch.setattr(system, "_read", lambda: next(readings))
    monitor = SystemMonitor()
    first, second = await monitor.status(), await monitor.status()
    assert (first.cpu_percent, first.network.rx_bytes_per_s, first.network.tx_bytes_per_s) == (None, None, None)
    assert (second.cpu_percent, second.network.rx_bytes_per_s, second.network.tx_bytes_per_s) == (25.0, 1000.0, 0.0)
    assert (second.hostname, second.uptime_s, second.load) == ("nas-1", 12.3, [0.1, 0.2, 0.3])


async def test_the_values_are_those_of_this_machine() -> None:
    status = await SystemMonitor().status()
    assert status.hostname == socket.gethostname()
    assert status.memory.total_bytes == psutil.virtual_memory().total
    assert 0 < status.memory.used_bytes < status.memory.total_bytes
    assert status.cpu_count == psutil.cpu_count()
    assert status.uptime_s > 0
    interfaces = {interface.name for interface in status.network.interfaces}
    assert interfaces == psutil.net_io_counters(pernic=True).keys() - {"lo"}


def test_busy_and_idle_make_up_all_cpu_time() -> None:
    before, times, after = psutil.cpu_times(), system._cpu_times_s(), psutil.cpu_times()
    assert before.idle + before.iowait <= times["idle"] <= after.idle + after.iowait
    assert before.user + before.system <= times["busy"]
