"""The bus of a gateway that stands alone: positions are counted in this process and delivered at once."""

import secrets
from collections.abc import Sequence

from tidegate.core.events import Draft, Position
from tidegate.ports import Deliver


class MemoryBus:
    """A sequence that lives as long as the process: a new epoch each time."""

    def __init__(self, epoch: str | None = None) -> None:
        self._epoch = epoch or secrets.token_hex(6)
        self._seq = 0
        self._deliver: Deliver | None = None

    @property
    def position(self) -> Position:
        return Position(self._epoch, self._seq)

    def connect(self, deliver: Deliver) -> None:
        self._deliver = deliver

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        assert self._deliver is not None, "connect comes before the first publish"
        first = self._seq + 1
        self._seq += len(drafts)
        self._deliver(list(enumerate(drafts, first)))
        return self.position
