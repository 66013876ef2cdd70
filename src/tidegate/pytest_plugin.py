"""pytest fixtures for tests against a gateway; pytest finds them by the entry point ``tidegate`` of ``pytest11``.

Imports nothing of Tidegate before a fixture is asked for, so that it costs nobody anything. Override
`tidegate_config` and `tidegate_backends` in a ``conftest.py`` or a test module. `tidegate_gateway` runs under
pytest-asyncio, in any mode, or under anyio's plugin.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pytest

__all__ = [
    "tidegate_backends",
    "tidegate_config",
    "tidegate_gateway",
]

try:
    from pytest_asyncio import fixture as asyncio_fixture
except ImportError:
    asyncio_fixture = pytest.fixture  # type: ignore[assignment] # never asked for then

if TYPE_CHECKING:
    from tidegate.ports import Backend
    from tidegate.testing import RunningGateway

pytest.register_assert_rewrite("tidegate.testing.contracts")  # a contract that is broken should say what came

ANYIO = "anyio_backend"
"""The fixture that a test has where anyio's plugin runs it."""


@pytest.fixture
def tidegate_config() -> Mapping[str, object]:
    """The tables of a ``tidegate.toml``: by default none, for a gateway that only publishes."""
    return {}


@pytest.fixture
def tidegate_backends() -> "Mapping[str, Backend]":
    """Backends by name, such as `tidegate.testing.ScriptedBackend`; by default none."""
    return {}


@pytest.fixture
def tidegate_gateway(request: pytest.FixtureRequest) -> "RunningGateway":
    """A gateway of `tidegate_config` and `tidegate_backends`, as `tidegate.testing.gateway` makes it."""
    runner = _gateway_under_anyio if ANYIO in request.fixturenames else _gateway_under_asyncio
    running: RunningGateway = request.getfixturevalue(runner.__name__)
    return running


@pytest.fixture
async def _gateway_under_anyio(
    _gateway_of_the_test: "AbstractAsyncContextManager[RunningGateway]",
) -> "AsyncIterator[RunningGateway]":
    async with _gateway_of_the_test as running:
        yield running


@asyncio_fixture
async def _gateway_under_asyncio(
    _gateway_of_the_test: "AbstractAsyncContextManager[RunningGateway]",
) -> "AsyncIterator[RunningGateway]":
    async with _gateway_of_the_test as running:
        yield running


@pytest.fixture
def _gateway_of_the_test(
    tidegate_config: Mapping[str, object], tidegate_backends: "Mapping[str, Backend]"
) -> "AbstractAsyncContextManager[RunningGateway]":
    from tidegate.testing import gateway

    return gateway(tidegate_config, backends=tidegate_backends)
