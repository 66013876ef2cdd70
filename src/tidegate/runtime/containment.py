"""Keeps a failure of our own code within the one connection on which it happened."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

UNFORESEEN = "the gateway failed at something unforeseen on this connection"
"""What the client is told then."""


class Failing(Protocol):
    """Something that can end by a failure, and nothing else with it."""

    def fail(self, error: Exception) -> None:
        """Log `error`, and end. Never raises."""
        ...


P = ParamSpec("P")
S = TypeVar("S", bound=Failing)


def contained(step: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Decorate a method so that it never raises: an exception is passed to `fail` of its object."""

    @functools.wraps(step)
    def attempt(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            step(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - `fail` logs it
            self.fail(error)

    return attempt
