"""What carries one connection's bytes, as the code above it sees it. Adapters implement it.

A channel reports two facts about itself to its `Connection` when they change; saying one again does no harm:

- it holds bytes, or none any more: `set_holding` (not needed where `socket` is None);
- it is over its soft limit: `pause`, and `resume` once it has drained.

Everything else follows from these.
"""

from typing import Protocol

from tidegate.errors import CloseCode


class Channel(Protocol):
    """A way to send."""

    @property
    def socket(self) -> int | None:
        """The descriptor that the hub may send to while the channel holds nothing; None: only `write` is allowed."""
        ...

    def write(self, data: bytes) -> None:
        """Send `data` after everything written before. Never raises and never waits."""
        ...

    def unsent(self) -> int:
        """Bytes taken by `write` that the kernel has not taken yet."""
        ...


class ClosableChannel(Channel, Protocol):
    """A channel that the gateway can end."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the stream in good order: what was written goes out, and nothing is written afterwards."""
        ...

    def abort(self, code: CloseCode, reason: str) -> None:
        """End the stream now: the close code goes out as far as the kernel takes it, the rest is thrown away."""
        ...
