"""A plain loop that asks: ``asking.py TIMEOUT_S PORT:SOURCES:INTERVAL_S…``. No breaker, no back-off: every interval.

Writes a line for each call: port, number of the source, Unix times of its begin and end, 1 if it was answered.
"""

import asyncio
import sys
import time

import aiohttp


async def ask(session: aiohttp.ClientSession, port: int, number: int, sources: int, interval_s: float) -> None:
    await asyncio.sleep(interval_s * number / sources)
    while True:
        began = time.time()
        answered = 0
        try:
            async with session.get(f"http://127.0.0.1:{port}/{number}", raise_for_status=True) as answer:
                await answer.read()
                answered = 1
        except (aiohttp.ClientError, TimeoutError):
            pass
        ended = time.time()
        print(port, number, f"{began:.4f} {ended:.4f}", answered, flush=True)
        await asyncio.sleep(began + interval_s - ended)


async def main() -> None:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=float(sys.argv[1]))) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for given in sys.argv[2:]:
            port, sources, interval_s = given.split(":")
            for number in range(int(sources)):
                tasks.create_task(ask(session, int(port), number, int(sources), float(interval_s)))


asyncio.run(main())
