"""Contract tests: what each port of `tidegate.ports` promises, as tests that you can run on any implementation.

In a test module, subclass the contract of a port and override `opened`, which makes the implementation::

    class TestMyStore(StoreContract):
        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Store]:
            store = MyStore()
            yield store
            await store.aclose()

The methods are tests for pytest with an asyncio plugin, but this package imports neither. Each test calls `opened`.
Tidegate's own test suite runs these contracts on its adapters and on the fakes of `tidegate.testing`.
"""

from tidegate.testing.contracts.authenticator import AuthenticatorContract
from tidegate.testing.contracts.backend import BackendContract
from tidegate.testing.contracts.bus import BusContract
from tidegate.testing.contracts.clock import ClockContract
from tidegate.testing.contracts.metrics import MetricsContract
from tidegate.testing.contracts.plugin import PluginContract
from tidegate.testing.contracts.store import StoreContract

__all__ = [
    "AuthenticatorContract",
    "BackendContract",
    "BusContract",
    "ClockContract",
    "MetricsContract",
    "PluginContract",
    "StoreContract",
]
