import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tidegate.signals import SIGNALS, stopping


@pytest.fixture(autouse=True)
def _handlers_of_the_tests() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
async def test_a_second_signal_ends_the_process_at_once(
    first: signal.Signals, second: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, exited = asyncio.Queue[signal.Signals](), asyncio.Queue[int]()
    monkeypatch.setattr(os, "_exit", exited.put_nowait)
    with stopping(stopped.put_nowait):
        os.kill(os.getpid(), first)
        assert await stopped.get() is first
        assert exited.empty()
        os.kill(os.getpid(), second)
        assert await exited.get() == 128 + second


async def test_afterwards_a_signal_does_what_it_does_to_any_program() -> None:
    with pytest.raises(LookupError), stopping(lambda _: None):
        raise LookupError
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * 2
