import asyncio
import threading

import pytest

from tidegate.engine.threads import in_thread


async def test_the_result_comes_from_a_daemon_thread_that_is_not_the_loop_s() -> None:
    thread = await in_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon


async def test_an_exception_comes_back() -> None:
    def fail() -> None:
        raise OSError("stale handle")

    with pytest.raises(OSError, match="stale handle"):
        await in_thread(fail)


async def test_cancelling_forgets_the_outcome() -> None:
    started, release, threads = threading.Event(), threading.Event(), list[threading.Thread]()

    def hang() -> None:
        threads.append(threading.current_thread())
        started.set()
        release.wait()

    future = in_thread(hang)
    await in_thread(started.wait)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    await asyncio.sleep(0)  # a turn of the loop, in which the thread's side is told
    release.set()
    # An exception in the thread itself would be a warning here, and so an error.
    await in_thread(threads[0].join)
