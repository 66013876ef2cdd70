"""The rule by which clients of tests come back, made from the contract alone; `docs/vectors` are its test as well."""

from collections.abc import Iterable
from typing import Any, Protocol

Message = dict[str, Any]

HANDS_OVER = {"welcome", "subscribed", "authenticated"}
"""What is followed by `synced`."""


class Rule(Protocol):
    """A rule by which a client comes back."""

    @property
    def opening(self) -> tuple[frozenset[str] | None, str | None]:
        """The types, None for the gateway's defaults, and the position to connect with."""
        ...

    @property
    def later(self) -> frozenset[str]:
        """What is to be subscribed to once that connection is synced."""
        ...

    def tell(self, message: Message) -> None:
        """A message came, after all those that were told before."""
        ...


class Resuming:
    """Where a client is, over all its connections: `position` as ``EPOCH:SEQ``, and the `types` that it stands for.

    `types` None are the gateway's defaults. `wanted` are all that it is to be subscribed to. `tell` it each message.
    """

    def __init__(self, types: Iterable[str] | None, since: str | None = None) -> None:
        self.wanted = None if types is None else frozenset(types)
        self.types = self.wanted
        self.position = since
        self._subscribed: frozenset[str] = frozenset()
        self._reached: dict[str, int] = {}
        """The largest `seq` by epoch, of this connection, of what counts."""
        self._epoch = ""
        self._promised: int | None = None

    @property
    def opening(self) -> tuple[frozenset[str] | None, str | None]:
        return (self.wanted, None) if self.position is None else (self.types, self.position)

    @property
    def later(self) -> frozenset[str]:
        types, _ = self.opening
        return frozenset() if types is None or self.wanted is None else self.wanted - types

    def tell(self, message: Message) -> None:
        data, kind = message["data"], message["type"]
        if kind == "welcome":
            self._subscribed, self._epoch = frozenset(data["subscriptions"]), data["epoch"]
            self._reached.clear()
            self.position = None
            if data["resumed"]:
                self._complete_at(data["seq"])
        if kind in {"subscribed", "unsubscribed", "authenticated"}:
            self._change(frozenset(data["types"]))
        if kind in HANDS_OVER:
            self._promised = data.get("seq", 0)
        elif kind == "gap" and data["reason"] != "slow_consumer":
            self.position = None
        elif kind == "synced":
            self._epoch = data["epoch"]
            self._complete_at(data["seq"])
            self._promised = None
        elif kind == "pong" and self._promised is not None:
            self._complete_at(self._promised)
            self._promised = None
        elif kind == "heartbeat":
            self._move(data["epoch"], data["seq"])
        elif "seq" in message and "snapshot" not in message:
            self._move(self._epoch, message["seq"])

    def _change(self, types: frozenset[str]) -> None:
        if types == self._subscribed:
            return
        ended = self._subscribed - types
        self.wanted = ((self._subscribed if self.wanted is None else self.wanted) | types) - ended
        self.types = (self.types or frozenset()) - ended
        self._subscribed = types

    def _move(self, epoch: str, seq: int) -> None:
        self._reached[epoch] = max(self._reached.get(epoch, 0), seq)
        if self.position is not None and epoch == self._epoch:
            self._tell_position()

    def _complete_at(self, seq: int) -> None:
        self._reached[self._epoch] = max(self._reached.get(self._epoch, 0), seq)
        self.types = self._subscribed
        self._tell_position()

    def _tell_position(self) -> None:
        self.position = f"{self._epoch}:{self._reached[self._epoch]}"


class FirstRule:
    """The rule that the page told at first: the largest position of any message that has one. It loses values."""

    later: frozenset[str] = frozenset()

    def __init__(self, types: Iterable[str] | None, since: str | None = None) -> None:
        self._types = None if types is None else frozenset(types)
        self._epoch, _, seq = (since or "").rpartition(":")
        self._seq = int(seq or 0)

    @property
    def opening(self) -> tuple[frozenset[str] | None, str | None]:
        return self._types, f"{self._epoch}:{self._seq}" if self._epoch else None

    def tell(self, message: Message) -> None:
        data = message["data"]
        match message["type"]:
            case "welcome":
                self._epoch, self._seq = data["epoch"], data["seq"]
            case "subscribed" | "heartbeat":
                self._seq = max(self._seq, data["seq"])
            case _ if "snapshot" not in message:
                self._seq = max(self._seq, message.get("seq", 0))
        if self._types is not None and message["type"] in {"subscribed", "unsubscribed", "authenticated"}:
            self._types = frozenset(data["types"])
