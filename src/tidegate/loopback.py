"""How a machine names itself. Imports nothing of the package, so that the client and the engine can use it too."""

from ipaddress import ip_address

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""By which names a machine calls itself, as a Host field has them."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`: ``localhost`` or an address, IPv6 with or without brackets."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
