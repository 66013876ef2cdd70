"""What happens in one world, all of it drawn from one seed: configuration, faults, jumps of the wall clock."""

import enum
import random
from typing import Any

import msgspec

from tidegate.config import Config

HOUR_S = 3600.0
CALM_S = 600.0
"""How long everything is well at the end, for everyone to converge."""

FINAL_S = 60.0
"""How long before the end every client is connected for the last time."""


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
    CHAOS = "does any of these, or answers, as a die says"


TOTAL = frozenset(Fault) - {Fault.FLAP, Fault.LATE, Fault.RACE, Fault.MAPPING, Fault.CHAOS}
"""Faults under which no request is answered well."""

OFTEN = [Fault.HANG, Fault.HANG, Fault.HANG, Fault.NO_TOKEN]
"""Faults that are drawn more often than others: what they put to the test is rare enough."""

REFUSING = frozenset({Fault.UNAUTHORIZED, Fault.NO_TOKEN, Fault.CHAOS})
"""Faults that may make a source back off like an opening breaker."""


class Phase(msgspec.Struct, frozen=True):
    """What a backend does from `start` to `end`, in seconds of the loop's clock; no fault: it is well."""

    fault: Fault | None
    start: float
    end: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One world's fate. `jumps` are moves of the wall clock: when, and by how many seconds."""

    seed: int
    duration_s: float
    config: Config
    phases: dict[str, list[Phase]]
    jumps: list[tuple[float, float]]
    capacity: int

    @property
    def final_at(self) -> float:
        return self.duration_s - FINAL_S


def draw(seed: int, *, hours: float = 1.0) -> Scenario:
    """The scenario of `seed`."""
    rng = random.Random(f"scenario {seed}")
    duration_s = max(hours * HOUR_S, 2 * CALM_S)
    config = msgspec.convert(_document(rng), Config)
    jumps = [
        (rng.uniform(0, duration_s), rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 5))
        for _ in range(rng.randint(1, round(6 * duration_s / HOUR_S) + 1))
    ]
    return Scenario(
        seed=seed,
        duration_s=duration_s,
        config=config,
        phases={name: list(_phases(rng, duration_s - CALM_S, duration_s)) for name in config.backends},
        jumps=sorted(jumps),
        capacity=rng.choice([512, 1024, 4096]),
    )


def _phases(rng: random.Random, healed_at: float, end: float) -> list[Phase]:
    phases: list[Phase] = []
    at = 0.0
    while at < healed_at:
        fault = rng.choice([*Fault, *OFTEN]) if phases or rng.random() < 0.3 else None
        if phases and phases[-1].fault is not None and rng.random() < 0.8:
            fault = None
        length = 10 ** rng.uniform(1, 2.7)
        phases.append(Phase(fault, at, min(at + length, healed_at)))
        at = phases[-1].end
    return [*phases, Phase(None, healed_at, end)]


def _document(rng: random.Random) -> dict[str, Any]:
    backends = {"alpha": _backend(rng, "alpha")}
    sources = {f"alpha.{name}": _source(rng, "alpha", name) for name in ("one", "two", "three")}
    if rng.random() < 0.5:  # a call may take longer than there is between two
        backends["alpha"]["timeout_s"] = sources["alpha.one"]["interval_s"] = rng.choice([6.0, 8.0])
    if rng.random() < 0.5:
        backends["beta"] = _backend(rng, "beta")
        sources["beta.one"] = _source(rng, "beta", "one")
    return {
        "server": {"host": "localhost", "state_dir": "", "heartbeat_interval_s": rng.choice([40.0, 60.0])},
        "limits": {
            "send_buffer_soft_bytes": rng.choice([600, 2000, 8000]),
            "send_buffer_hard_bytes": rng.choice([16384, 65536]),
            "slow_grace_s": rng.choice([15.0, 60.0, 120.0]),
        },
        "history": {"events": rng.choice([60, 300, 3000])},
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
            "open_s": rng.choice([1.0, 2.0, 5.0, 10.0]),
            "open_max_s": rng.choice([20.0, 60.0]),
            "half_open_successes": rng.choice([1, 1, 1, 2]),
            "heal_s": rng.choice([10.0, 60.0, 300.0]),
        },
    }


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
