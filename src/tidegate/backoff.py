"""How long to wait before trying again, longer after each failure. Pure: the jitter is an argument.

Whatever tries again in this package waits by this: clients, circuit breakers, supervised processes. Imports nothing of
the package.
"""

import msgspec

_MAX_DOUBLINGS = 64
"""2**64 times any first wait is beyond any maximum, and far from overflow."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential back-off with jitter.

    The bound after n failures in a row is min(`first_s` * 2**(n-1), `max_s`) seconds. The wait is drawn from `least`
    times to `most` times that bound. By default that is full jitter, so that the clients of a gateway that fell do not
    return all at once. What lived for `heal_s` seconds before it failed starts the count anew.
    """

    first_s: float = 1.0
    max_s: float = 30.0
    heal_s: float = 5.0
    least: float = 0.0
    most: float = 1.0

    def delay_s(self, failures: int, *, jitter: float, at_least_s: float = 0.0) -> float:
        """The wait after `failures` failures in a row (from 1), `jitter` in [0, 1), beyond `at_least_s`."""
        bound_s = min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.max_s)
        return at_least_s + bound_s * (self.least + (self.most - self.least) * jitter)

    def failures(self, before: int, *, lived_s: float | None) -> int:
        """How many failures in a row it is with one more, of what lived for `lived_s`; None if it never began."""
        return 1 if lived_s is not None and lived_s >= self.heal_s else before + 1
