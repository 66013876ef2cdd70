"""``python -m bench.transports``: what a poll costs over a Unix socket, beside the same over TCP.

One server, a process of its own, listens on both and answers with the same bytes. Polls of the two take turns in small
groups, so that a machine that is busy for a while is so for both. The ratio within one run is what counts; it should
not exceed 1.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from tidegate.outbound.backends import HttpOptions, JsonRpcBackend
from tidegate.ports import Call

GROUP = 50
"""How many polls of one kind are measured at once."""

HOW = {"over one connection": {}, "over a new one each time": {"Connection": "close"}}
"""The headers with which polls share a connection, or do not."""

CALLS = [Call("system.status")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    print("| | CPU of the gateway, µs | ratio | time until the answer, µs | ratio |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for number, how in enumerate(HOW):
            for row in uvloop.run(rows(how, rounds, Path(folder, f"{number}.sock"))):
                print(row, flush=True)


async def rows(how: str, rounds: int, path: Path) -> list[str]:
    """Poll `how`, and return a row for each of the two."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, path), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/rpc"
    headers = HOW[how]
    backends = {
        "TCP": JsonRpcBackend(HttpOptions(url, headers=headers)),
        "Unix socket": JsonRpcBackend(HttpOptions(url, headers=headers, socket=path)),
    }
    figures = await measured(backends, rounds)
    for backend in backends.values():
        await backend.aclose()
    server.kill()
    server.join()
    return table(how, figures)


async def measured(backends: dict[str, JsonRpcBackend], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of CPU and of waiting that a poll took, for each backend and round."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in backends}
    for _ in range(rounds):
        for name, backend in backends.items():
            cpu, clock = time.process_time(), time.perf_counter()
            for _ in range(GROUP):
                await backend.call(CALLS)
            figures[name].append(((time.process_time() - cpu) / GROUP, (time.perf_counter() - clock) / GROUP))
    return figures


def table(how: str, figures: dict[str, list[tuple[float, float]]]) -> list[str]:
    medians = {
        name: [statistics.median(column) for column in zip(*of_one, strict=True)] for name, of_one in figures.items()
    }
    cpu, waited = medians["TCP"]
    return [
        f"| {name}, {how} | {own_cpu * 1e6:.0f} | {own_cpu / cpu:.2f} | {own * 1e6:.0f} | {own / waited:.2f} |"
        for name, (own_cpu, own) in medians.items()
    ]


class Answering(asyncio.Protocol):
    """Answers each request, which comes in one piece, with its own id."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        number = body.partition(b'"id":')[2].partition(b",")[0]
        answer = b'{"jsonrpc":"2.0","id":' + number + b',"result":{"hostname":"nas-1","load":[0.5,0.4,0.3]}}'
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        if b"Connection: close" in head:
            self._transport.close()


def serve(told: Connection, path: Path) -> None:
    """Listen on a free port, which is `told`, and on a Unix socket at `path`, until killed."""

    async def listening() -> None:
        loop = asyncio.get_running_loop()
        tcp = await loop.create_server(Answering, "127.0.0.1", 0)
        await loop.create_unix_server(Answering, path)
        told.send(tcp.sockets[0].getsockname()[1])
        await tcp.serve_forever()

    asyncio.run(listening())


if __name__ == "__main__":
    main()
