"""What the metrics say of deliveries equals what clients on real sockets counted, to the event."""

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
from fanout import draft
from serving import serving

from tidegate.core.delivery.slowness import SendLimits

KINDS = ("live", "snapshots", "replayed", "skipped")


class Following:
    """A WebSocket client that counts what it gets."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.counts: Counter[tuple[str, str]] = Counter()
        self.position = ""
        self._came_at = 0

    async def until(self, event_type: str) -> None:
        """Read up to a message of this type."""
        async with asyncio.timeout(20):
            while True:
                message = json.loads((await self.socket.receive()).data)
                self._note(message)
                if message["type"] == event_type:
                    return

    def _note(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "synced":
            self.position = f"{message['data']['epoch']}:{message['data']['seq']}"
            self._came_at = 0
        elif kind == "welcome" and message["data"]["resumed"]:
            self._came_at = 1 << 60  # everything up to `synced` is the replay
        elif kind == "gap":
            self.counts.update({(name, "skipped"): count for name, count in message["data"]["skipped"].items()})
        elif "seq" in message:
            self.position = f"{self.position.partition(':')[0]}:{message['seq']}"
            is_replay = message["seq"] <= self._came_at
            found = "snapshots" if message.get("snapshot") else "replayed" if is_replay else "live"
            self.counts[kind, found] += 1


async def test_live_snapshots_replays_and_what_slow_readers_lost() -> None:
    limits = SendLimits(hard_bytes=1 << 26, grace_s=20.0)
    async with (
        serving(websocket={"send_buffer_soft_bytes": 1 << 14}, send_limits=limits) as gate,
        aiohttp.ClientSession() as session,
    ):
        publish = gate.house.gateway.publish
        url = f"http://127.0.0.1:{gate.port}/ws?types=*"
        await publish([draft("app.kept", n, key=str(n), retain=True) for n in range(5)])
        readers = [Following(await session.ws_connect(url)) for _ in range(3)]
        slow = Following(await session.ws_connect(url, max_msg_size=0))
        for reader in [*readers, slow]:
            await reader.until("synced")
        for n in range(20):
            await publish([draft("app.news", n), draft("app.kept", n, key="0", retain=True)])
        await publish([draft("app.first", 1)])
        for reader in readers:
            await reader.until("app.first")
        gone = readers.pop()
        await gone.socket.close()
        # More than its buffers hold, all of it in a few turns: a slow reader loses some, and is told so.
        for _ in range(400):
            await publish([draft("app.news", "x" * 20_000), draft("app.kept", "y" * 1000, key="1", retain=True)])
        back = Following(await session.ws_connect(f"{url}&since={gone.position}"))
        await publish([draft("app.last", 1)])
        for reader in [*readers, slow, back]:
            await reader.until("app.last")
        heard = sum([each.counts for each in [*readers, slow, gone, back]], Counter())
        by_type = gate.house.gateway.traffic.by_type
        counted = {(name, kind): getattr(by_type[name], kind) for name in by_type for kind in KINDS}
        resumes = gate.house.gateway.traffic.resumes
    assert {name: count for name, count in counted.items() if count} == dict(heard)
    assert heard["app.news", "skipped"] > 0
    assert heard["app.news", "replayed"] > 0
    assert heard["app.kept", "snapshots"] == 20
    assert resumes["whole"] == 1
