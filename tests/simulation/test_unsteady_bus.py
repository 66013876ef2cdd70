"""The simulation's bus keeps the contract of every bus, whatever trouble it has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from simulation.bus import NONE, Troubles, UnsteadyBus

from tidegate.ports import Bus
from tidegate.testing.contracts.bus import BusContract

FAILING = Troubles(latency_s=0.005, refused=0.2, unknown=0.3, late_s=0.01)
TROUBLES = {
    "none": NONE,
    "slow": Troubles(latency_s=0.01),
    "overtaking": Troubles(latency_s=0.01, in_order=False),
    "failing": FAILING,
    "repeating, with holes": Troubles(repeats=0.5, holes=0.3),
    "everything": Troubles(
        latency_s=0.005, in_order=False, refused=0.2, unknown=0.2, late_s=0.01, repeats=0.5, holes=0.3
    ),
}


class TestUnsteadyBus(BusContract):
    @pytest.fixture(autouse=True, params=TROUBLES)
    def _troubled(self, request: pytest.FixtureRequest) -> None:
        self.troubles = TROUBLES[request.param]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Bus]:
        yield UnsteadyBus(self.troubles)
