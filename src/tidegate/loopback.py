"""Loopback names and addresses. Imports nothing of the package, so that the client and the engine can use it too."""

from ipaddress import ip_address

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""The loopback names of a machine, as they appear in a Host header."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to `host`.

    `host` is a name or an address, IPv6 with or without brackets. The only loopback name is ``localhost``.
    """
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
