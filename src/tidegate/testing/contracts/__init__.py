"""What each port of `tidegate.ports` promises, as tests that any implementation can be put through.

Subclass the contract of a port in a test module, and override `opened`, which makes the implementation::

    class TestMyStore(StoreContract):
        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Store]:
            store = MyStore()
            yield store
            await store.aclose()

The methods are tests for pytest with an asyncio plugin, but nothing here imports one. Each test calls `opened` itself.
Tidegate's own suite puts every implementation through these contracts, the fakes of `tidegate.testing` among them.
"""

from tidegate.testing.contracts.authenticator import AuthenticatorContract
from tidegate.testing.contracts.backend import BackendContract
from tidegate.testing.contracts.bus import BusContract
from tidegate.testing.contracts.clock import ClockContract
from tidegate.testing.contracts.metrics import MetricsContract
from tidegate.testing.contracts.store import StoreContract

__all__ = [
    "AuthenticatorContract",
    "BackendContract",
    "BusContract",
    "ClockContract",
    "MetricsContract",
    "StoreContract",
]
