"""What happens in one world, all of it drawn from one seed.

That is the configuration, what becomes of each backend, when somebody pokes, when the machine sleeps, and jumps of the
wall clock.
"""

import enum
import random
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from tidegate.config import Config

HOUR_S = 3600.0
CALM_S = 600.0
"""How long everything is well at the end, for everyone to converge."""

FINAL_S = 60.0
"""How long before the end every client is connected for the last time."""

KERNELS = ((0, 1, 2, 3, 4, 5, 7, 11, 19, 35), (0, 1, 3, 7, 15, 31))
"""When kernels send a SYN, in seconds after the connect began: since Linux 6.5, and before. Then they give up."""

SHORT_HISTORY = 60
"""So few events, where a machine that wakes tells more at once, are too few even for those who read all the time."""

CROWD = 45
"""So many sources has a backend of which one can see how fast it is caught up."""

LOAD_S = 10.0
"""The calls of so many seconds make an overloaded backend slow."""


class Fault(enum.Enum):
    """What a backend does instead of answering."""

    DEAD = "refuses and drops connections"
    HANG = "takes requests and never answers"
    FLAP = "dies and comes back every few seconds"
    LATE = "answers late, out of order, or too late"
    RACE = "fails some requests at once and answers others late"
    STATUS = "answers 500"
    BUSY = "answers 503 or 429 with Retry-After"
    UNAUTHORIZED = "answers 401"
    WRONG_ID = "answers with the id of another request, and other data"
    GARBAGE = "answers HTML with 200"
    TRUNCATED = "drops the connection in mid-body"
    RPC_ERROR = "answers with an error object"
    CALLER_ERROR = "does not know the method"
    MAPPING = "answers well, but without what some sources look for"
    NO_TOKEN = "answers 500, where it is asked at all: our own token for it can't be read at times"
    NOT_FOUND = "answers 404, as a proxy whose container restarts"
    TOO_MANY = "answers 429 without Retry-After"
    CHAOS = "does any of these that is an answer, or answers well, as a die says"
    UNANSWERED = "is switched off: nothing answers its SYNs, or anything else"
    RESET = "takes connections and resets them"
    HALF_DEAD = "refuses every other connection"
    HALF_RESET = "resets every other connection"
    NO_ENTRY = "resets every other connection, and refuses the rest: it can be reached, and not asked"
    NO_NAME = "has a name that does not resolve"
    SLOW_NAME = "has a name that takes 20 s to resolve"
    ONE_SLOT = "takes one connection at a time, and somebody else has it at times"
    BLINK = "is there for 0.3 s, away for 0.3 s, and so on"
    HELD_DEAD = "answers once with Retry-After, then refuses connections"
    OVERLOAD = "takes the longer the more calls there are"
    ONE_BROKEN = "fails one source, and answers all others"
    EXPIRED = "answers 401 until another secret comes"


ANSWERS = [
    Fault.DEAD,
    Fault.HANG,
    Fault.LATE,
    Fault.STATUS,
    Fault.BUSY,
    Fault.UNAUTHORIZED,
    Fault.WRONG_ID,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.RPC_ERROR,
    Fault.CALLER_ERROR,
    Fault.MAPPING,
    Fault.NOT_FOUND,
    Fault.TOO_MANY,
]
"""What a die may choose for one request."""

TOTAL = frozenset(ANSWERS) - {Fault.LATE, Fault.MAPPING} | {
    Fault.NO_TOKEN,
    Fault.UNANSWERED,
    Fault.RESET,
    Fault.NO_ENTRY,
    Fault.NO_NAME,
    Fault.HELD_DEAD,
}
"""Faults under which no request is answered well."""

OFTEN = [Fault.HANG, Fault.HANG, Fault.DEAD, Fault.UNANSWERED, Fault.NO_TOKEN, Fault.EXPIRED]
"""Faults that are drawn more often than others: what they put to the test is rare enough."""


class Phase(msgspec.Struct, frozen=True):
    """What a backend does from `start` to `end`, in seconds of the loop's clock; no fault: it is well."""

    fault: Fault | None
    start: float
    end: float


class Rewriting(msgspec.Struct, frozen=True):
    """Somebody writes the file with our token for a backend, with `other` bytes or the same."""

    at: float
    other: bool


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one backend. `syns_s` is when those who connect to it send their SYNs.

    While it is overloaded, more than `bearable` calls in `LOAD_S` take longer than the timeout.
    """

    phases: list[Phase]
    syns_s: tuple[int, ...]
    rewritings: list[Rewriting]
    bearable: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One world's fate. `jumps` are moves of the wall clock: when, and by how many seconds.

    `pokes` are when somebody says of a backend that something changed there; `sleeps` are when the machine sleeps, and
    for how many seconds.
    """

    seed: int
    duration_s: float
    config: Config
    fates: dict[str, Fate]
    jumps: list[tuple[float, float]]
    pokes: list[tuple[float, str]]
    sleeps: list[tuple[float, float]]
    capacity: int

    @property
    def final_at(self) -> float:
        return self.duration_s - FINAL_S


def draw(seed: int, *, hours: float = 1.0) -> Scenario:
    """The scenario of `seed`."""
    rng = random.Random(f"scenario {seed}")
    duration_s = max(hours * HOUR_S, 2 * CALM_S)
    config = msgspec.convert(_document(rng), Config)
    jumps = draw_jumps(rng, duration_s)
    fates = {name: draw_fate(rng, _intervals(config, name), duration_s) for name in config.backends}
    return Scenario(
        seed=seed,
        duration_s=duration_s,
        config=config,
        fates=fates,
        jumps=jumps,
        pokes=sorted(draw_pokes(rng, fates, duration_s)),
        sleeps=sorted(draw_sleeps(rng, duration_s - CALM_S)) if config.history.events > SHORT_HISTORY else [],
        capacity=rng.choice([512, 1024, 4096]) if "crowd" not in config.backends else 65536,
    )


def draw_jumps(rng: random.Random, duration_s: float) -> list[tuple[float, float]]:
    """When the wall clock jumps, and by how many seconds."""
    return sorted(
        (rng.uniform(0, duration_s), rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 5))
        for _ in range(rng.randint(1, round(6 * duration_s / HOUR_S) + 1))
    )


def _intervals(config: Config, backend: str) -> list[float]:
    return [source.interval_s for source in config.sources.values() if source.backend == backend]


def draw_fate(rng: random.Random, intervals: Iterable[float], duration_s: float) -> Fate:
    """What becomes of a backend whose sources have these intervals."""
    normal = sum(1 / interval_s for interval_s in intervals)
    return Fate(
        phases=list(_phases(rng, duration_s - CALM_S, duration_s)),
        syns_s=rng.choice(KERNELS),
        rewritings=[
            Rewriting(rng.uniform(0, duration_s), rng.random() < 0.5)
            for _ in range(rng.choice([0, 10, 50]) * round(duration_s / HOUR_S))
        ],
        bearable=2 * LOAD_S * normal + 3,
    )


def _phases(rng: random.Random, healed_at: float, end: float) -> list[Phase]:
    phases: list[Phase] = []
    at = 0.0
    while at < healed_at:
        fault = rng.choice([*Fault, *OFTEN]) if phases or rng.random() < 0.3 else None
        if phases and phases[-1].fault is not None and rng.random() < 0.8:
            fault = None
        length = 10 ** rng.uniform(0.3, 2.7)
        phases.append(Phase(fault, at, min(at + length, healed_at)))
        at = phases[-1].end
    return [*phases, Phase(None, healed_at, end)]


def draw_pokes(rng: random.Random, fates: dict[str, Fate], duration_s: float) -> Iterator[tuple[float, str]]:
    """Now and then, often twice in a row; and by scripts that start a backend, once it is there."""
    at, mean_s = 2.0, rng.choice([600.0, 600.0, 600.0, 40.0])  # the first polls are left alone: they show the grid
    while (at := at + rng.expovariate(1 / mean_s)) < duration_s:
        name = rng.choice(list(fates))
        yield at, name
        if rng.random() < 0.5:
            yield at + rng.uniform(0, 0.2), name
    for name, fate in fates.items():
        for phase in fate.phases:
            if phase.fault is None and phase.start and rng.random() < 0.2:
                yield phase.start + rng.uniform(0, 0.5), name


def draw_sleeps(rng: random.Random, healed_at: float) -> list[tuple[float, float]]:
    if rng.random() < 0.7:
        return []
    return [(rng.uniform(10, healed_at - 320), 10 ** rng.uniform(0, 2.5)) for _ in range(rng.randint(1, 4))]


def _document(rng: random.Random) -> dict[str, Any]:
    backends = {"alpha": _backend(rng, "alpha")}
    sources = {f"alpha.{name}": _source(rng, "alpha", name) for name in ("one", "two", "three")}
    if rng.random() < 0.5:  # a call may take longer than there is between two
        backends["alpha"]["timeout_s"] = sources["alpha.one"]["interval_s"] = rng.choice([6.0, 8.0])
    if rng.random() < 0.5:
        backends["beta"] = _backend(rng, "beta")
        sources["beta.one"] = _source(rng, "beta", "one")
    if rng.random() < 0.06:
        backends["crowd"] = _backend(rng, "crowd") | {"connections": 64, "batch": False}
        interval_s = rng.choice([120.0, 150.0])
        sources |= {f"crowd.s{n}": _one_of_many(n, interval_s) for n in range(CROWD)}
    return {
        "server": {"host": "localhost", "state_dir": "", "heartbeat_interval_s": rng.choice([40.0, 60.0])},
        "limits": {
            "send_buffer_soft_bytes": rng.choice([600, 2000, 8000]),
            "send_buffer_hard_bytes": rng.choice([16384, 65536]) if "crowd" not in backends else 262144,
            "slow_grace_s": rng.choice([15.0, 60.0, 120.0]),
        },
        "history": {"events": rng.choice([SHORT_HISTORY, 300, 3000]) if "crowd" not in backends else 3000},
        "backends": backends,
        "sources": sources,
    }


def _backend(rng: random.Random, name: str) -> dict[str, Any]:
    return {
        "url": f"http://{name}:80/rpc",
        "timeout_s": rng.choice([1.0, 2.0, 4.0, 8.0]),
        "batch": rng.random() < 0.25,
        "connections": rng.choice([1, 2, 16, 16]),
        "retry_after_max_s": rng.choice([30.0, 300.0]),
        "breaker": {
            "failure_threshold": rng.randint(1, 5),
            "half_open_successes": rng.choice([1, 1, 1, 2]),
            "heal_s": rng.choice([10.0, 60.0, 300.0]),
            **({"open_s": rng.choice([1.0, 5.0, 10.0])} if rng.random() < 0.5 else {}),
            **({"open_max_s": rng.choice([20.0, 60.0])} if rng.random() < 0.5 else {}),
        },
        **({"retry_s": rng.choice([0.0, 0.1, 0.5, 2.0, 5.0, 30.0])} if rng.random() < 0.4 else {}),
    }


def _one_of_many(n: int, interval_s: float) -> dict[str, Any]:
    return {"backend": "crowd", "method": f"s{n}.status", "interval_s": interval_s, "on_change": True}


def _source(rng: random.Random, backend: str, name: str) -> dict[str, Any]:
    source: dict[str, Any] = {
        "backend": backend,
        "method": f"{name}.status",
        "interval_s": rng.choice([30.0, 45.0, 60.0, 60.0]) if rng.random() < 0.85 else rng.choice([5.0, 10.0, 20.0]),
        "on_change": rng.random() < 0.3,
        "stale_repeat": rng.random() < 0.9,
    }
    if rng.random() < 0.2:
        source["max_stale_s"] = rng.choice([45.0, 120.0])
    if rng.random() < 0.2:
        source |= {"items": "/items", "key": "id", "method": f"{name}.list"}
    elif rng.random() < 0.3:
        source |= {"select": "/state", "method": f"{name}.part"}
    if rng.random() < 0.15:
        source["breaker"] = "own"
    return source
