"""For tests of what is built on Tidegate: a real gateway in the test's own event loop, and fakes of all it stands on.

::

    engine = ScriptedBackend({"system.status": {"cpu_percent": 12.5}})
    async with gateway(CONFIG, backends={"engine": engine}) as running, running.follow("system.status") as events:
        assert (await events.next()).data == {"cpu_percent": 12.5}
        engine.fail(Disconnected("the cable is out"))
        await running.poll("engine")
        assert (await events.next()).stale

The fakes implement the ports of `tidegate.ports`; Tidegate's own tests hold them to the same contracts as the adapters.
`tidegate.testing.contracts` has those contracts for other people's implementations. Needs no test framework; for
pytest, `tidegate.pytest_plugin` makes fixtures of this.
"""

from tidegate.testing.backend import Exchange, Script, ScriptedBackend
from tidegate.testing.clock import ManualClock
from tidegate.testing.following import Follower
from tidegate.testing.gateway import RunningGateway, gateway
from tidegate.testing.metrics import RecordingMetrics
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
]
