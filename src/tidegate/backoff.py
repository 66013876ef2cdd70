"""Exponential back-off with jitter. Pure: the random number is an argument.

All retries in this package use it: clients, circuit breakers and supervised processes. Imports nothing of the package.
"""

import msgspec

_MAX_DOUBLINGS = 64
"""Limit on the exponent. 2**64 times any first wait exceeds any maximum, and a float is far from overflow."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential back-off with jitter.

    After n consecutive failures, the bound is min(`first_s` * 2**(n-1), `max_s`) seconds. The wait is a random value
    between `least` and `most` times the bound. If a connection or process worked for at least `heal_s` seconds before
    it failed, the count starts again at 1.

    The defaults are those of a gateway's clients: soon back after a restart, but not all at the same moment, and few
    attempts at a gateway that stays away. The JavaScript client has the same: clients/js/src/backoff.js.
    """

    first_s: float = 1.0
    max_s: float = 8.0
    heal_s: float = 5.0
    least: float = 0.5
    most: float = 1.0

    def delay_s(self, failures: int, *, jitter: float, at_least_s: float = 0.0) -> float:
        """Return the wait in seconds after `failures` (1 or more) consecutive failures.

        `jitter` is a random number in [0, 1). `at_least_s`, such as a Retry-After, is added to the wait.
        """
        bound_s = min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.max_s)
        return at_least_s + bound_s * (self.least + (self.most - self.least) * jitter)

    def failures(self, before: int, *, lived_s: float | None) -> int:
        """Return the number of consecutive failures after one more, given the number `before` it.

        `lived_s` is how long the connection or process worked before it failed; None if it never started.
        """
        return 1 if lived_s is not None and lived_s >= self.heal_s else before + 1
