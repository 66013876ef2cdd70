"""How long to wait before connecting again. Pure: the jitter is an argument."""

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential back-off with full jitter, so that the clients of a gateway that fell do not return as one crowd.

    The wait before attempt n + 1 is drawn from [0, min(`first_s` * 2**(n-1), `max_s`)], in seconds. A connection
    that lived for `heal_s` starts the count anew.
    """

    first_s: float = 1.0
    max_s: float = 30.0
    heal_s: float = 5.0

    def delay_s(self, failures: int, *, jitter: float, at_least_s: float = 0.0) -> float:
        """The wait after `failures` failures in a row (from 1), `jitter` in [0, 1), beyond `at_least_s`."""
        doublings = min(failures - 1, 32)  # 2**32 s is beyond any `max_s`, and far from overflow
        return at_least_s + min(self.first_s * 2.0**doublings, self.max_s) * jitter
