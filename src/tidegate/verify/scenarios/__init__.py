"""The six scenarios, in the order in which they are run."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tidegate.verify.scenarios import cache, degradation, failures, mistakes, recovery, transitions
from tidegate.verify.trial import Trial


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A way in which a backend can fail, and the gateway's promise for it. `play` runs the scenario and checks it."""

    name: str
    title: str
    promise: str
    play: Callable[[Trial], Awaitable[None]]


SCENARIOS: Final = (
    Scenario(
        name="transitions",
        title="1. State transitions",
        promise="The breaker opens after exactly its threshold, probes at retry_at, opens for longer after a failing"
        " probe and closes after a good one; every client hears each move once, and REST says the same.",
        play=transitions.play,
    ),
    Scenario(
        name="failures",
        title="2. RPC failure handling",
        promise="Every way in which a call can fail has its own code, is reported once per episode and limit, and costs"
        " no client its connection and the gateway no memory.",
        play=failures.play,
    ),
    Scenario(
        name="degradation",
        title="3. Graceful degradation",
        promise="From the first failure on every subscriber, old and new, has the last good data, marked stale with the"
        " reason and its true age; heartbeats go on; the backend sees nothing but probes.",
        play=degradation.play,
    ),
    Scenario(
        name="recovery",
        title="4. Automatic recovery",
        promise="A backend that is back is found by one probe, as soon as the settings promise: at once if it can be"
        " reached again, else at retry_at; the breaker closes once; every stale source is asked then, without a burst.",
        play=recovery.play,
    ),
    Scenario(
        name="cache",
        title="5. Cache under an open breaker",
        promise="REST and WebSocket hand out the same last good values, which no error overwrites and a kill of the"
        " gateway does not lose; reading them asks nothing of the backend.",
        play=cache.play,
    ),
    Scenario(
        name="mistakes",
        title="6. Our own mistakes",
        promise="A mapping that fails, a wrong method and a refused account make their own source stale and no other;"
        " they are not held against the backend, and leave no breaker half-open.",
        play=mistakes.play,
    ),
)
