"""Up to where a client has everything: the position with which it resumes. Pure.

A client is complete up to the largest of the positions in ``welcome`` and ``heartbeat`` and the ``seq`` of live or
replayed events, never a snapshot's. A welcome that resumes nothing promises its position together with the snapshots
that follow it, so it counts only once something that comes after them has arrived: who loses the connection in the
middle of the snapshots must not resume behind them.
"""

from typing import NamedTuple, Self


class Position(NamedTuple):
    """A place in the sequence of events; `epoch` names the sequence."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``EPOCH:SEQ``. Raises `ValueError` for anything else."""
        epoch, _, seq = text.rpartition(":")
        if not (epoch and seq.isascii() and seq.isdecimal()):
            raise ValueError(f"expected a position of the form EPOCH:SEQ, got {text!r}")
        return cls(epoch, int(seq))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


class Progress:
    """A client's position across connections. Tell it what arrives, in order."""

    __slots__ = ("_promised", "complete")

    def __init__(self, since: Position | None = None) -> None:
        self.complete = since
        self._promised: Position | None = None

    def welcomed(self, position: Position, *, resumed: bool) -> None:
        """A connection begins at `position`; snapshots follow unless it resumes."""
        if resumed:
            self.complete, self._promised = position, None
        else:
            self._promised = position

    def passed_snapshots(self) -> None:
        """Something arrived that comes after the snapshots."""
        if self._promised is not None:
            self.complete, self._promised = self._promised, None

    def reached(self, position: Position) -> None:
        """The server says that everything up to `position` has been sent."""
        self.passed_snapshots()
        if self.complete is None or self.complete.epoch != position.epoch or self.complete.seq < position.seq:
            self.complete = position

    def live(self, seq: int) -> None:
        """A live or replayed event arrived."""
        self.passed_snapshots()
        if self.complete is not None and self.complete.seq < seq:
            self.complete = self.complete._replace(seq=seq)
