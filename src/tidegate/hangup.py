"""SIGHUP, which asks a gateway to reload its configuration. Caught from the first moment of the process on.

Imports nothing that takes time, so that the handler can be set before anything else is imported: a signal that comes
during the start would otherwise end the process.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Hangups:
    """The SIGHUPs of this process: each is told to a listener, and those that come before there is one to the next."""

    def __init__(self) -> None:
        self._waiting = False
        self._tell: Callable[[], object] | None = None

    def catch(self) -> None:
        """Handle SIGHUP from now on, for the rest of the process. Call it from the main thread."""
        signal.signal(signal.SIGHUP, self._caught)

    @contextmanager
    def told_to(self, tell: Callable[[], object]) -> Iterator[None]:
        """Call `tell` at each SIGHUP while the context is open, and at once if one has come before.

        It is called in the main thread, between any two instructions: it may only note what has happened.
        """
        self._tell = tell
        if self._waiting:
            self._waiting = False
            tell()
        try:
            yield
        finally:
            self._tell = None

    def _caught(self, _number: int, _frame: object) -> None:
        if self._tell is None:
            self._waiting = True
        else:
            self._tell()


HANGUPS = Hangups()
"""Those of this process. Only `tidegate serve` catches them: elsewhere the signal ends the process, as usual."""
