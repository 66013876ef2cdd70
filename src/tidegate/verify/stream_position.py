"""Tracks the position of a client and how to resume from it: the rule of `docs/protocol.md`.

An implementation of its own, without code of the gateway or its client. The test vectors in `docs/vectors` cover it.
"""

from collections.abc import Iterable

import msgspec

from tidegate.verify.frames import Frame


class _Data(msgspec.Struct):
    """The fields of a message's data that matter here."""

    epoch: str = ""
    seq: int = 0
    resumed: bool = False
    subscriptions: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    reason: str = ""


class StreamPosition:
    """The position of a client. Pass each message to `take`, in order.

    `position` is ``EPOCH:SEQ`` or None, and `types` are the patterns for which it is valid. A client starts with the
    arguments `types` (None: the gateway's defaults) and `since`.
    """

    def __init__(self, types: Iterable[str] | None, since: str | None = None) -> None:
        self.types = None if types is None else frozenset(types)
        self.position = since
        self._wanted = self.types
        self._subscribed: frozenset[str] = frozenset()
        self._epoch = ""
        self._newest = 0
        self._promised: int | None = None

    @property
    def opening(self) -> tuple[frozenset[str] | None, str | None, frozenset[str]]:
        """How to connect: the types, the position to resume from, and the types to subscribe to after `synced`."""
        if self.position is None:
            return self._wanted, None, frozenset()
        return self.types, self.position, (self._wanted or frozenset()) - (self.types or frozenset())

    def take(self, frame: Frame) -> None:
        """Process a message."""
        match frame.type:
            case "welcome" | "synced" | "subscribed" | "unsubscribed" | "authenticated" | "heartbeat" | "gap":
                self._told(frame.type, msgspec.json.decode(frame.data, type=_Data))
            case "pong" if self._promised is not None:
                self._is_complete(self._promised)
            case _ if frame.seq is not None and not frame.snapshot:
                self._moved(frame.seq)

    def _told(self, kind: str, data: _Data) -> None:
        match kind:
            case "welcome":
                self.position, self._epoch, self._newest = None, data.epoch, 0
                self._subscribed, self._promised = data.subscriptions, data.seq
                if data.resumed:
                    self._is_complete(data.seq)
            case "synced":
                self._newest = self._newest if data.epoch == self._epoch else 0
                self._epoch = data.epoch
                self._is_complete(data.seq)
            case "heartbeat" if data.epoch == self._epoch:
                self._moved(data.seq)
            case "gap" if data.reason != "slow_consumer":
                self.position = None
            case "subscribed" | "unsubscribed" | "authenticated":
                self._is_subscribed(data.types)
                self._promised = self._promised if kind == "unsubscribed" else data.seq

    def _is_complete(self, seq: int) -> None:
        self._newest = max(self._newest, seq)
        self.types, self._promised = self._subscribed, None
        self.position = f"{self._epoch}:{self._newest}"

    def _moved(self, seq: int) -> None:
        self._newest = max(self._newest, seq)
        if self.position is not None:
            self.position = f"{self._epoch}:{self._newest}"

    def _is_subscribed(self, types: frozenset[str]) -> None:
        ended, added = self._subscribed - types, types - self._subscribed
        if ended or added:
            self._wanted = (self._wanted if self._wanted is not None else self._subscribed) - ended | added
        self.types = None if self.types is None else self.types - ended
        self._subscribed = types
