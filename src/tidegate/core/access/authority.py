"""Parses hosts and origins into a normal form, so that a configured one and a received one can be compared.

Browsers, proxies and people write the same host in many ways: in capitals, with a final dot, with the default port of
its scheme, with an address in full or shortened. All spellings of one host are equal here.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

NAME_CHARACTERS = 253
"""The longest name that DNS allows (RFC 1035 section 2.3.4)."""

MAX_PORT = 65535

_ZONE = r"(?:%[0-9a-z._~%-]+)?"
_AUTHORITY = re.compile(rf"(?:\[([0-9a-f:.]+){_ZONE}\]|([a-z0-9_.-]+))(?::([0-9]{{0,5}}))?")
_NAME = re.compile(r"[a-z0-9_-](?:[a-z0-9._-]*[a-z0-9_-])?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""What browsers take for a number in the last label of a host. See `_is_broken_address`."""


class Authority(msgspec.Struct, frozen=True):
    """A host, and its port if one was given.

    `host` is a name in lower case without the final dot, or an address in its shortest form. IPv6 is in brackets and
    without a zone. An IPv4-mapped IPv6 address (``::ffff:192.0.2.1``) becomes IPv4.
    """

    host: str
    port: int | None = None


class Origin(msgspec.Struct, frozen=True):
    """The origin of a page (RFC 6454). `port` defaults to that of the scheme; None if the scheme has no default."""

    scheme: str
    host: str
    port: int | None


NO_ORIGIN = Origin("null", "", None)
"""The origin of a page that has no host, such as one opened from a file."""


def parse_authority(text: str) -> Authority | None:
    """Parse ``host[:port]`` of a Host field or a URL, with an IPv6 address in brackets. None for anything else."""
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    inner, name, port = found.groups()
    host = _address_host(inner) if inner is not None else _name_host(name)
    number = int(port) if port else None
    return None if host is None or (number or 0) > MAX_PORT else Authority(host, number)


def parse_host(text: str) -> Authority | None:
    """Parse a configured host as `parse_authority` does, but accept an IPv6 address without brackets and port too."""
    return parse_authority(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)


def parse_origin(text: str) -> Origin | None:
    """Parse an Origin field, ``scheme://host[:port]`` or ``null``. None for anything that a browser never sends."""
    scheme, separator, rest = text.lower().partition("://")
    if (scheme, separator) == ("null", ""):
        return NO_ORIGIN
    authority = parse_authority(rest)
    if not separator or not _SCHEME.fullmatch(scheme) or authority is None or authority.port == 0:
        return None
    # A configured origin that no browser can send would never match, so it must be reported as an error.
    return origin_of(scheme, authority) if not _is_broken_address(scheme, authority.host) else None


def origin_of(scheme: str, authority: Authority) -> Origin:
    """Return the origin of pages served at `authority` over `scheme`, which must be in lower case."""
    port = authority.port if authority.port is not None else DEFAULT_PORTS.get(scheme)
    return Origin(scheme, authority.host, port)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address as sockets and proxies write it: with or without brackets, zone and port.

    Drops the zone, and turns an IPv4-mapped IPv6 address into IPv4. None for anything that is not an address.
    """
    authority = parse_host(text)
    if authority is None:
        return None
    try:
        return ip_address(authority.host.strip("[]"))
    except ValueError:
        return None


def is_unspecified(host: str) -> bool:
    """Whether a server that listens on `host` listens on every address of the machine."""
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
    """Whether no browser sends `host`, because it would rewrite it as an IPv4 address or reject it (WHATWG URL).

    Browsers read any host whose last label is a number as an IPv4 address: ``127.1`` is sent as ``127.0.0.1``.
    """
    if scheme not in DEFAULT_PORTS or not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return False
    try:
        IPv4Address(host)
    except ValueError:
        return True
    return False
