"""Tests for programs built on Tidegate: a real gateway in the test's own event loop, and a fake for each port.

::

    engine = ScriptedBackend({"system.status": {"cpu_percent": 12.5}})
    async with gateway(CONFIG, backends={"engine": engine}) as running, running.follow("system.status") as events:
        assert (await events.next()).data == {"cpu_percent": 12.5}
        engine.fail(Disconnected("the cable is out"))
        await running.poll("engine")
        assert (await events.next()).stale

The fakes implement the ports of `tidegate.ports` and pass the same contract tests as Tidegate's own adapters. Those
contracts are in `tidegate.testing.contracts`, for your own implementations. No test framework is needed;
`tidegate.pytest_plugin` has fixtures for pytest.
"""

from tidegate.testing.backend import Exchange, Script, ScriptedBackend
from tidegate.testing.clock import ManualClock
from tidegate.testing.following import Follower
from tidegate.testing.gateway import RunningGateway, gateway
from tidegate.testing.metrics import RecordingMetrics
from tidegate.testing.plugin import opened_plugin
from tidegate.testing.store import MemoryStore

__all__ = [
    "Exchange",
    "Follower",
    "ManualClock",
    "MemoryStore",
    "RecordingMetrics",
    "RunningGateway",
    "Script",
    "ScriptedBackend",
    "gateway",
    "opened_plugin",
]
