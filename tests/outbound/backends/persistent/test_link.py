"""One persistent connection, without a socket."""

import asyncio
import itertools

from tidegate.outbound.backends.persistent.dialogue import Dialogue
from tidegate.outbound.backends.persistent.framing import JsonStream
from tidegate.outbound.backends.persistent.link import Link

NOTIFICATION = b'{"method":"n"}'


async def test_a_flood_of_short_messages_is_read_in_many_turns_of_the_event_loop() -> None:
    noticed: list[str] = []
    dialogue = Dialogue(itertools.count(1), version="2.0", notice=noticed.append)
    link = Link(JsonStream(limit_bytes=1_000_000), dialogue, peer="here", key=b"", lost=lambda link: None)
    link.data_received(NOTIFICATION * 5000)
    before, longest = 0, 0
    while before < len(noticed):
        longest, before = max(longest, len(noticed) - before), len(noticed)
        await asyncio.sleep(0)
    assert len(noticed) == 5000
    assert longest < 1000
