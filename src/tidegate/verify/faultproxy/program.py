"""The fault proxy as a program."""

import asyncio
import sys

import msgspec

from tidegate.signals import stopping
from tidegate.verify.faultproxy.control import control_server
from tidegate.verify.faultproxy.proxy import FaultProxy


def run(listen: str, upstream: str, control: str, *, seed: int | None = None) -> int:
    """Run a fault proxy until SIGTERM or SIGINT. A second signal ends the process immediately.

    `listen` and `control` are ``HOST:PORT``, with port 0 for any free one. `upstream` is ``http://HOST:PORT``. When
    both accept connections, their URLs are printed as one line of JSON on standard output: ``{"url":…,"control":…}``.
    Return the exit code: 0 after a signal, 1 if an address cannot be bound, 2 for invalid arguments.
    """
    try:
        proxy = FaultProxy(listen=_address(listen), upstream=upstream, seed=seed)
        control_address = _address(control)
    except ValueError as error:
        sys.stderr.write(f"faultproxy: {error}\n")
        return 2
    try:
        asyncio.run(_serve(proxy, control_address))
    except OSError as error:
        sys.stderr.write(f"faultproxy: {error}\n")
        return 1
    return 0


async def _serve(proxy: FaultProxy, control: tuple[str, int]) -> None:
    stopped = asyncio.Event()
    with stopping(lambda _: stopped.set()):
        async with proxy, control_server(proxy, listen=control) as control_url:
            sys.stdout.write(msgspec.json.encode({"url": proxy.url, "control": control_url}).decode() + "\n")
            sys.stdout.flush()
            await stopped.wait()


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"expected an address of the form HOST:PORT, got {text[:200]!r}")
    return host, int(port)
