"""When a backend is knocked at: not too often, only where a connection tells something, and one knock at a time."""

from collections.abc import Sequence

from simulation.accounts import Accounts
from simulation.breakers import Model
from simulation.holds import Hold
from simulation.tap import Knock

SOON_S, LATER_S = 1.0, 5.0
"""From the beginning of one knock to that of the next: in the first `SOON_FOR_S` of an episode, and after."""

SOON_FOR_S = 60.0
JITTER = 0.2
LONGEST_S = 3.0
"""How long a knock may take, if the timeout is not shorter."""

EDGE_S = 0.03


class Knocking:
    """The knocks at one backend. `models` are its breakers, each with the sources behind it."""

    def __init__(self, models: dict[Model, list[str]], hold: Hold, accounts: Accounts, *, timeout_s: float) -> None:
        self.running: Knock | None = None
        self.woke_at = 0.0
        self._models = models
        self._hold = hold
        self._accounts = accounts
        self._deadline_s = min(timeout_s, LONGEST_S)
        self._began = float("-inf")

    def started(self, knock: Knock, now: float) -> str | None:
        """A knock begins; what is wrong with that."""
        running, self.running = self.running, knock
        began, self._began = self._began, now
        if running is not None:
            return f"a second knock, while that of {running.began:.3f} goes on"
        if now < self._hold.until:
            return f"a knock {self._hold.until - now:.3f} s before the end of the hold"
        knocked = [model for model in self._models if model.state == "open" and model.unreachable]
        if not knocked:
            states = [f"{m.name} is {m.state}, {'unreachable' if m.unreachable else 'sick'}" for m in self._models]
            return f"a knock, though {', '.join(states)}"
        if all(self._accounts[name].earliest > now + EDGE_S for model in knocked for name in self._models[model]):
            return "a knock, though every source waits after its account was refused"
        earliest = min(self._earliest(model, began) for model in knocked)
        if now < earliest - EDGE_S:
            return f"a knock {earliest - now:.3f} s too early, the last began at {began:.3f}"
        return None

    def ended(self, knock: Knock, now: float) -> str | None:
        """A knock ended; what is wrong with that."""
        self.running = None
        if knock.reached:
            for model in self._models:
                model.reached_at = now
        lasted_s = now - max(knock.began, self.woke_at)
        if lasted_s > self._deadline_s + EDGE_S:
            return f"a knock of {lasted_s:.3f} s, expected at most {self._deadline_s:g}"
        if knock.reached and not knock.stood:
            return "a knock that said it reached the backend, and did not"
        return None

    def _earliest(self, model: Model, began: float) -> float:
        """When the next knock may begin for this breaker, after the last one `began`."""
        since = max(model.since, began)
        if model.doubled:
            since = began
        gap_s = SOON_S if since - model.episode_began < SOON_FOR_S else LATER_S
        if model.doubled:
            gap_s = min(gap_s * 2.0**model.doubled, model.open_max_s)
        return since + gap_s * (1 - JITTER)


def knock_by(since: float, episode_began: float) -> float:
    """When a knock follows at the latest, one gap after `since`."""
    soon = since - episode_began < SOON_FOR_S
    return since + (SOON_S if soon else LATER_S) * (1 + JITTER)


__all__: Sequence[str] = ["Knocking", "knock_by"]
