"""The configurations that a world with reloads goes through, all of them drawn from one seed.

Each differs from the one before in one to three things: a source or a backend that is added, removed, moved or asked in
another way, other rules, another session, other defaults and limits. Without reloads of `alpha`, nothing that is said
of that backend changes.
"""

import copy
import random
from typing import Any

import msgspec

from simulation.scenario import CALM_S, CROWD, HOUR_S, Scenario, draw_fate, draw_jumps, draw_pokes, draw_sleeps
from tidegate.config import Config

RELOADS = 50

KEPT_S = 20.0
"""How long before the calm the last reload comes, at the least."""

TYPES = ("alpha.one", "alpha.two", "alpha.three", "beta.one", "beta.two", "gamma.one", "shared.one")
BACKENDS = ("alpha", "beta", "gamma")
Document = dict[str, Any]


class Reload(msgspec.Struct, frozen=True):
    """At this time of the loop's clock, `config` is put in force."""

    at: float
    config: Config


class ReloadScenario(Scenario, frozen=True, kw_only=True):
    """A world with reloads. Its `fates` are those of all backends that there ever are."""

    reloads: list[Reload]


def draw_reloads(seed: int, *, hours: float = 0.5, spared: bool = False, reloads: int = RELOADS) -> ReloadScenario:
    """The scenario of `seed`. If `alpha` is `spared`, nothing is different for it, whatever the reloads do."""
    rng = random.Random(f"reloads {seed}")
    duration_s = hours * HOUR_S + CALM_S
    drawing = _Drawing(rng, spared=spared)
    config = drawing.config()
    fates = {
        name: draw_fate(rng, {"alpha": [20.0] * 4, "beta": [20.0] * 2}.get(name, [60.0] * CROWD), duration_s)
        for name in BACKENDS
    }
    last_at = duration_s - CALM_S - KEPT_S
    times = sorted(rng.uniform(0.5, last_at) for _ in range(reloads))
    return ReloadScenario(
        seed=seed,
        duration_s=duration_s,
        config=config,
        fates=fates,
        jumps=draw_jumps(rng, duration_s),
        pokes=sorted(draw_pokes(rng, fates, duration_s)),
        sleeps=sorted(draw_sleeps(rng, duration_s - CALM_S)) if duration_s > 2 * CALM_S else [],
        capacity=65536,
        reloads=[Reload(at, drawing.another()) for at in times],
    )


class _Drawing:
    """Draws one document after the other. `versions` make methods different."""

    def __init__(self, rng: random.Random, *, spared: bool) -> None:
        self._rng = rng
        self._free = tuple(name for name in BACKENDS if name != "alpha") if spared else BACKENDS
        self._types = tuple(name for name in TYPES if not (spared and name.startswith("alpha.")))
        self._is_spared = spared
        backends = {"alpha": self._backend("alpha"), "beta": self._backend("beta")}
        sources = {
            name: self._source(name, name.partition(".")[0])
            for name in ("alpha.one", "alpha.two", "alpha.three", "beta.one")
        }
        self._document: Document = {
            "server": {"host": "localhost", "state_dir": "", "heartbeat_interval_s": 40.0, "allow_no_sources": True},
            "limits": {"send_buffer_hard_bytes": 4194304, "slow_grace_s": 60.0},
            "history": {"events": 3000},
            "backends": backends,
            "sources": sources,
        }

    def config(self) -> Config:
        return msgspec.convert(copy.deepcopy(self._document), Config)

    def another(self) -> Config:
        """The next configuration; now and then the same once more."""
        rng = self._rng
        changes = [
            self._add, self._add, self._remove, self._redefine, self._redefine, self._move, self._retime, self._retime,
            self._rule, self._own, self._own, self._other_backend, self._other_session, self._limits, self._nothing,
            self._crowd,
        ]  # fmt: skip
        for change in rng.choices(changes, k=rng.choice([1, 1, 2, 3])):
            change()
        return self.config()

    @property
    def _sources(self) -> Document:
        sources: Document = self._document["sources"]
        return sources

    @property
    def _backends(self) -> Document:
        backends: Document = self._document["backends"]
        return backends

    def _some(self) -> str | None:
        """A source that may be changed."""
        names = [name for name, it in self._sources.items() if it["backend"] in self._free and "crowd" not in name]
        return self._rng.choice(names) if names else None

    def _home(self) -> str | None:
        names = [name for name in self._backends if name in self._free]
        return self._rng.choice(names) if names else None

    def _add(self) -> None:
        missing = [name for name in self._types if name not in self._sources]
        home = self._home()
        if missing and home is not None:
            name = self._rng.choice(missing)
            own = name.partition(".")[0]
            self._sources[name] = self._source(name, own if own in self._backends else home)

    def _remove(self) -> None:
        if (name := self._some()) is not None:
            del self._sources[name]

    def _redefine(self) -> None:
        if (name := self._some()) is not None:
            self._sources[name] |= self._question(name)
            for key in {"items", "key", "select"} - self._asked.keys():
                self._sources[name].pop(key, None)

    def _move(self) -> None:
        name, home = self._some(), self._home()
        if name is not None and home is not None:
            self._sources[name]["backend"] = home

    def _retime(self) -> None:
        if (name := self._some()) is not None:
            self._sources[name] |= self._times()

    def _rule(self) -> None:
        if (name := self._home()) is not None:
            self._backends[name] |= self._rules()

    def _own(self) -> None:
        if (name := self._some()) is not None and self._sources[name].pop("breaker", None) is None:
            self._sources[name]["breaker"] = "own"

    def _other_backend(self) -> None:
        name = self._rng.choice([name for name in self._free if name != "alpha"])
        if name in self._backends:
            del self._backends[name]
            for event_type in [each for each, source in self._sources.items() if source["backend"] == name]:
                del self._sources[event_type]
        else:
            self._backends[name] = self._backend(name)
            self._sources[f"{name}.one"] = self._source(f"{name}.one", name)

    def _other_session(self) -> None:
        """Another service, or other connections to the same."""
        if (name := self._home()) is not None:
            other = {"headers": {"X-Site": str(self._rng.randint(0, 5))}}
            self._backends[name] |= self._rng.choice([other, {"response_bytes": self._rng.randint(100_000, 900_000)}])

    def _limits(self) -> None:
        rng = self._rng
        self._document["history"] = {"events": rng.choice([500, 1500, 3000])}
        self._document["limits"]["patterns"] = rng.choice([50, 100])
        self._document["limits"]["retained_keys"] = rng.choice([100, 1000])
        self._document["server"]["default_types"] = rng.choice([["*"], ["alpha.*", "heartbeat"], ["source.freshness"]])

    def _nothing(self) -> None:
        pass

    def _crowd(self) -> None:
        """Many sources of one backend come, or go, at once."""
        if "gamma" not in self._backends:
            return
        crowd = [name for name in self._sources if "crowd" in name]
        version = self._rng.randint(0, 3)
        for name in crowd:
            del self._sources[name]
        for n in range(CROWD if version or not crowd else 0):
            method = f"crowd.s{n}.v{version}.status"
            self._sources[f"crowd.s{n}"] = {
                "backend": "gamma", "method": method, "interval_s": 60.0, "on_change": True,
            }  # fmt: skip

    def _backend(self, name: str) -> Document:
        return {"url": f"http://{name}:80/rpc", "batch": self._rng.random() < 0.2, **self._rules()}

    def _rules(self) -> Document:
        rng = self._rng
        return {
            "timeout_s": rng.choice([1.0, 2.0, 4.0]),
            "connections": rng.choice([1, 2, 16, 16, 64]),
            "retry_after_max_s": 30.0,
            "retry_s": rng.choice([0.0, 0.5, 2.0]),
            "breaker": {
                "failure_threshold": rng.randint(1, 5),
                "half_open_successes": rng.choice([1, 1, 2]),
                "heal_s": rng.choice([10.0, 60.0]),
                "open_s": rng.choice([1.0, 2.0, 5.0]),
                "open_max_s": rng.choice([15.0, 20.0]),
            },
        }

    def _source(self, name: str, backend: str) -> Document:
        source = {"backend": backend, **self._question(name), **self._times()}
        return source | ({"breaker": "own"} if self._rng.random() < 0.2 else {})

    def _times(self) -> Document:
        rng = self._rng
        return {
            "interval_s": rng.choice([5.0, 10.0, 20.0, 30.0, 60.0]),
            "on_change": rng.random() < 0.3,
            "stale_repeat": rng.random() < 0.9,
        }

    def _question(self, name: str) -> Document:
        """How it is asked. No two sources are asked in the same way."""
        rng, method = self._rng, f"{name}.v{self._rng.randint(1, 3)}"
        self._asked: Document = rng.choice(
            [
                {"method": f"{method}.status"},
                {"method": f"{method}.status"},
                {"method": f"{method}.part", "select": "/state"},
                {"method": f"{method}.list", "items": "/items", "key": "id"},
            ]
        )
        return self._asked
