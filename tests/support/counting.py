"""Clients that count what they get, in threads of their own: for comparison with what a gateway says it gave them."""

import contextlib
import json
import threading
import urllib.request
from collections import Counter
from typing import Any, NamedTuple

from programs import until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Kind = str
"""``live``, ``snapshot`` or ``replay``."""


class Turn(NamedTuple):
    """A source became stale or fresh, by the `timestamp` of the event that said so."""

    type: str
    is_stale: bool
    timestamp: str


class Counting:
    """One connection. `counts` are the events so far by type and kind; `seq` is the newest position heard of.

    `turns` is the course of each source's freshness, and `refused` how many calls the events say were refused a
    connection.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Kind]] = Counter()
        self.turns: list[Turn] = []
        self.refused = 0
        self.seq = 0
        self.epoch = ""
        self._stale: dict[str, bool] = {}
        self._is_resumed = False
        self._is_synced = False

    @property
    def position(self) -> str:
        return f"{self.epoch}:{self.seq}"

    def take(self, message: dict[str, Any]) -> None:
        """Count one message of the server."""
        match message["type"]:
            case "welcome":
                self.epoch = message["data"]["epoch"]
                self._is_resumed = message["data"]["resumed"]
                self._is_synced = False
            case "synced":
                self._is_synced = True
                self.seq = max(self.seq, message["data"]["seq"])
            case "heartbeat":
                self.seq = max(self.seq, message["data"]["seq"])
            case "rpc_error" if "Connection refused" in message["data"]["message"]:
                self.refused += 1 + message["data"]["suppressed"]
        if "seq" not in message:
            return
        self.counts[message["type"], self._kind(message)] += 1
        self.seq = max(self.seq, message["seq"])
        stale = message.get("stale")
        if stale is not None and stale is not self._stale.get(message["type"]):
            self._stale[message["type"]] = stale
            self.turns.append(Turn(message["type"], stale, message["timestamp"]))

    def _kind(self, message: dict[str, Any]) -> Kind:
        if message.get("snapshot"):
            return "snapshot"
        return "replay" if self._is_resumed and not self._is_synced else "live"


class WebSocketCounting(Counting):
    """Over a WebSocket. `leave` and `come_back` are one after the other."""

    def __init__(self, url: str, types: str) -> None:
        super().__init__()
        self._url = f"{url.replace('http', 'ws', 1)}/ws?types={types}"
        self._join("")

    def leave(self) -> None:
        """Close, when all that was sent has been counted."""
        self._socket.close()
        self._thread.join()

    def come_back(self) -> None:
        """Resume from where it left."""
        self._join(f"&since={self.position}")

    def _join(self, since: str) -> None:
        self.epoch = ""
        self._thread = threading.Thread(target=self._read, args=[since], daemon=True)
        self._thread.start()
        until(lambda: self.epoch)

    def _read(self, since: str) -> None:
        with (
            # The gateway is stopped for a while: that is no reason to leave.
            connect(self._url + since, max_size=None, ping_interval=None) as self._socket,
            contextlib.suppress(ConnectionClosed),
        ):
            for frame in self._socket:
                self.take(json.loads(frame))


class SseCounting(Counting):
    """Over server-sent events."""

    def __init__(self, url: str, types: str) -> None:
        super().__init__()
        self._answer = urllib.request.urlopen(f"{url}/api/v1/events?types={types}")
        threading.Thread(target=self._read, daemon=True).start()
        until(lambda: self.epoch)

    def _read(self) -> None:
        for line in self._answer:
            if line.startswith(b"data:"):
                self.take(json.loads(line.removeprefix(b"data:")))
