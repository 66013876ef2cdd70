"""Hosts and origins in one spelling each, so that a configured one and a sent one can be compared.

Browsers, proxies and people write one host in many ways: in capitals, with a dot at the end, with the port that its
scheme has anyway, an address in full or shortened. What is the same host is equal here.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

NAME_CHARACTERS = 253
"""The longest name that DNS has (RFC 1035 section 2.3.4)."""

MAX_PORT = 65535

_ZONE = r"(?:%[0-9a-z._~%-]+)?"
_AUTHORITY = re.compile(rf"(?:\[([0-9a-f:.]+){_ZONE}\]|([a-z0-9_.-]+))(?::([0-9]{{0,5}}))?")
_NAME = re.compile(r"[a-z0-9_-](?:[a-z0-9._-]*[a-z0-9_-])?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Authority(msgspec.Struct, frozen=True):
    """A host, and its port where one was named.

    `host` is a name in lower case without the final dot, or an address in its shortest form: IPv6 in brackets and
    without a zone, an IPv4 address that came as IPv6 (``::ffff:192.0.2.1``) as IPv4.
    """

    host: str
    port: int | None = None


class Origin(msgspec.Struct, frozen=True):
    """Where a page comes from (RFC 6454). `port` is that of the scheme where none was named; None if it has none."""

    scheme: str
    host: str
    port: int | None


NO_ORIGIN = Origin("null", "", None)
"""What a page of no host has, such as one from a file."""


def parse_authority(text: str) -> Authority | None:
    """Read ``host[:port]`` as a Host field or a URL has it, an IPv6 address in brackets; None for anything else."""
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    inner, name, port = found.groups()
    host = _address_host(inner) if inner is not None else _name_host(name)
    number = int(port) if port else None
    return None if host is None or (number or 0) > MAX_PORT else Authority(host, number)


def parse_host(text: str) -> Authority | None:
    """`parse_authority` for a configured host: an IPv6 address may come without brackets, but then without a port."""
    return parse_authority(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)


def parse_origin(text: str) -> Origin | None:
    """Read an Origin field, ``scheme://host[:port]`` or ``null``; None for what no browser can send."""
    scheme, separator, rest = text.lower().partition("://")
    if (scheme, separator) == ("null", ""):
        return NO_ORIGIN
    authority = parse_authority(rest)
    if not separator or not _SCHEME.fullmatch(scheme) or authority is None or authority.port == 0:
        return None
    return origin_of(scheme, authority) if not _is_broken_address(scheme, authority.host) else None


def origin_of(scheme: str, authority: Authority) -> Origin:
    """The origin of what is served at `authority` by way of `scheme`, which is in lower case."""
    port = authority.port if authority.port is not None else DEFAULT_PORTS.get(scheme)
    return Origin(scheme, authority.host, port)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as sockets and proxies write it: plain or in brackets, with a zone, with a port; None for others.

    The zone is left out, and an IPv4 address that came as IPv6 is IPv4.
    """
    authority = parse_host(text)
    if authority is None:
        return None
    try:
        return ip_address(authority.host.strip("[]"))
    except ValueError:
        return None


def is_unspecified(host: str) -> bool:
    """Whether a server that listens on `host` listens on every address."""
    address = parse_address(host)
    return address is not None and address.is_unspecified


def _address_host(text: str) -> str | None:
    try:
        address = IPv6Address(text)
    except ValueError:
        return None
    return f"[{address}]" if address.ipv4_mapped is None else str(address.ipv4_mapped)


def _name_host(text: str) -> str | None:
    name = text.removesuffix(".")
    return name if len(name) <= NAME_CHARACTERS and _NAME.fullmatch(name) else None


def _is_broken_address(scheme: str, host: str) -> bool:
    """Whether a browser takes `host` for an IPv4 address that it writes in another way, or for none (WHATWG URL)."""
    if scheme not in DEFAULT_PORTS or not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return False
    try:
        IPv4Address(host)
    except ValueError:
        return True
    return False
