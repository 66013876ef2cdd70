"""Tests about connecting run on both event loops: each has socket code of its own."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ABOUT_CONNECTING = {"test_connecting", "test_proxy", "test_unix"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    asyncios = {"asyncio": asyncio.new_event_loop}
    return asyncios | {"uvloop": uvloop.new_event_loop} if item.path.stem in ABOUT_CONNECTING else asyncios
