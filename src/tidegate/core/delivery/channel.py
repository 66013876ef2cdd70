"""What carries one connection's bytes: a WebSocket or an event stream. Adapters implement it.

A channel reports two facts to its `Connection` when they change. Reporting the same again does no harm:

- whether it holds bytes that the kernel has not taken: `set_holding` (not needed if `socket` is None);
- whether it is over its soft limit: `pause`, and `resume` once it has drained.

Everything else follows from these two.
"""

from typing import Protocol

from tidegate.errors import CloseCode


class Channel(Protocol):
    """A way to send."""

    @property
    def socket(self) -> int | None:
        """The descriptor that the hub may send to while the channel holds nothing. None if it must use `write`."""
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
        """End the stream in order: send what was written, then the close code. Nothing may be written afterwards."""
        ...

    def abort(self, code: CloseCode, reason: str) -> None:
        """End the stream now: send the close code if the kernel takes it, and throw away all other unsent bytes."""
        ...
