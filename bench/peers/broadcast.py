"""`websockets.broadcast` on uvloop: ``broadcast.py PORT CONTROL_PORT [SNAPSHOT]``.

Whoever connects to CONTROL_PORT publishes: each line is a message, and lines that come in one read go out together.
"""

import asyncio
import resource
import sys

import uvloop
import websockets.asyncio.server as websockets


async def main() -> None:
    port, control_port, snapshot = int(sys.argv[1]), int(sys.argv[2]), "".join(sys.argv[3:])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    connections: set[websockets.ServerConnection] = set()

    async def subscribe(connection: websockets.ServerConnection) -> None:
        connections.add(connection)
        if snapshot:
            await connection.send(snapshot)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            websockets.broadcast(connections, line[:-1].decode())

    async with (
        websockets.serve(subscribe, "127.0.0.1", port, compression=None, backlog=16384, max_queue=1, open_timeout=None),
        await asyncio.start_server(take, "127.0.0.1", control_port),
    ):
        await asyncio.Future()


uvloop.run(main())
