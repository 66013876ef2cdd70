"""One publish, from its hand-over to the bus until its outcome is known.

A `Bus` may be other people's code, so it is not trusted. This is the only place that calls `publish`, and the only one
that looks at what comes of it. Whatever a bus does, a publish has one of three outcomes: a position, `BusRefused` or
`BusUnknown`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext, suppress

import structlog

from tidegate.core.events import EncodedDraft, Position
from tidegate.errors import BusRefused, BusUnknown
from tidegate.ports import BusSession, Clock
from tidegate.runtime.deadline import Deadline

log = structlog.get_logger("tidegate.publishing")


class PendingPublish:
    """One publish of a batch, with its retries, all with the same `id`. `outcome` is that of the last try.

    `outcome` is what the bus returned: wait for it, but read it with `position`, `failure` or `result`.
    """

    __slots__ = ("_drafts", "_id", "_session", "outcome")

    def __init__(self, session: BusSession, id: str, drafts: Sequence[EncodedDraft]) -> None:  # noqa: A002
        self._session = session
        self._id = id
        self._drafts = drafts
        self.outcome = self._hand_over()

    @property
    def position(self) -> Position | None:
        """The position of the last draft, if it is known already."""
        outcome = self.outcome
        if not outcome.done() or outcome.cancelled() or outcome.exception() is not None:
            return None
        return outcome.result()

    def failure(self) -> BusRefused | BusUnknown | None:
        """Return why the last try failed, or None if it published the drafts. Call it once `outcome` is done."""
        outcome = self.outcome
        if outcome.cancelled():  # never by us: the session ends, or the bus has a defect
            return BusUnknown("the bus cancelled the publish")
        error = outcome.exception()
        return None if error is None else _understood(error)

    def result(self) -> Position:
        """Return the position of the last draft. Raises the `failure`. Call it once `outcome` is done."""
        failure = self.failure()
        if failure is not None:
            raise failure
        return self.outcome.result()

    def retry(self) -> None:
        """Try again. The bus knows the `id`, so the drafts are published once."""
        self.outcome = self._hand_over()

    async def done_by(self, clock: Clock, at: float | None) -> bool:
        """Wait for the outcome until the monotonic time `at`, or without a limit. Return whether there is one.

        Cancelling this does not stop the publish.
        """
        outcome = self.outcome
        if outcome.done():
            return True
        outcome.add_done_callback(_retrieve_exception)
        # `asyncio.wait` leaves what it waits for alone when it is cancelled, unlike an `await` of the future.
        with suppress(TimeoutError):
            async with nullcontext() if at is None else Deadline(clock, at):
                await asyncio.wait((outcome,))
        return outcome.done()

    def _hand_over(self) -> asyncio.Future[Position]:
        """Hand the drafts to the bus. If it raises instead of returning a future, return one that failed with that."""
        try:
            outcome: object = self._session.publish(self._drafts, id=self._id)
        except Exception as error:  # noqa: BLE001 - whatever a bus raises is an outcome
            return _failed(error)
        if isinstance(outcome, asyncio.Future):
            return outcome
        return _failed(TypeError(f"expected a future from publish(), got {type(outcome).__name__}"))


def _failed(error: Exception) -> asyncio.Future[Position]:
    outcome: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
    outcome.set_exception(_understood(error))
    return outcome


def _understood(error: BaseException) -> BusRefused | BusUnknown:
    """Return `error` if the port knows it, else a `BusUnknown`.

    Any other error is a defect of the bus, and says nothing about the drafts. A retry is safe: the bus knows the id.
    """
    if isinstance(error, (BusRefused, BusUnknown)):
        return error
    log.error("a bus failed in a way that it must not", error=repr(error))
    unknown = BusUnknown(f"expected BusRefused or BusUnknown from the bus, got {error!r}")
    unknown.__cause__ = error
    return unknown


def _retrieve_exception(outcome: asyncio.Future[Position]) -> None:
    """Called for an outcome that perhaps nobody waits for any more: asyncio logs an exception nobody retrieves."""
    if not outcome.cancelled():
        outcome.exception()
