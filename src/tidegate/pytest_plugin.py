"""pytest fixtures for tests against a gateway. pytest finds them by the entry point ``tidegate`` of ``pytest11``.

Override `tidegate_config` and `tidegate_backends` in a ``conftest.py`` or a test module. `tidegate_gateway` runs under
pytest-asyncio, in any mode, or under anyio's plugin. Tidegate itself is imported only when a test requests a fixture:
pytest loads this module in every run, also in projects that do not test against a gateway.
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
    # Then only anyio's plugin runs async tests, and `_gateway_under_asyncio` is never requested.
    asyncio_fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from tidegate.ports import Backend
    from tidegate.testing import RunningGateway

# So that a failing contract shows the values that it compared.
pytest.register_assert_rewrite("tidegate.testing.contracts")

ANYIO = "anyio_backend"
"""A fixture that a test has only if anyio's plugin runs it."""


@pytest.fixture
def tidegate_config() -> Mapping[str, object]:
    """The configuration, as the tables of a ``tidegate.toml``. Empty by default: a gateway that polls nothing."""
    return {}


@pytest.fixture
def tidegate_backends() -> "Mapping[str, Backend]":
    """Backends by name, such as `tidegate.testing.ScriptedBackend`. Empty by default."""
    return {}


@pytest.fixture
def tidegate_gateway(request: pytest.FixtureRequest) -> "RunningGateway":
    """A running gateway with `tidegate_config` and `tidegate_backends`, made by `tidegate.testing.gateway`."""
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
