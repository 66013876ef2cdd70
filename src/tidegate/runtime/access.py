"""The rules of access: which hosts, origins, tokens and proxies are accepted.

`runtime/admission.py` decides in which order they are checked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Self

import msgspec

from tidegate.core.access.authority import (
    DEFAULT_PORTS,
    Authority,
    Origin,
    origin_of,
    parse_address,
    parse_authority,
    parse_host,
    parse_origin,
)
from tidegate.core.access.grant import Grant, Role
from tidegate.errors import AccessRefused, MessageError, RefusalReason
from tidegate.loopback import LOOPBACK_NAMES, is_loopback
from tidegate.ports import Authenticator
from tidegate.runtime import request_ids

RETRY_S = 2
"""Retry-After, in seconds, while the keys for checking tokens are not available yet."""

LOCAL_ADDRESS = "tidegate.local_address"
"""The key in an ASGI scope's state under which the `local_address` of a `Request` is passed."""

REQUEST_ID = "tidegate.request_id"
"""The key in an ASGI scope's state under which the `id` of a `Request` is passed."""

LEFT = "tidegate.left"
"""The key in the ASGI message ``http.disconnect`` for the `LeaveReason`: why the connection ended."""


def _unknown_address() -> str:
    return ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a request that access depends on.

    `headers` has lower-case names. `peer` is the remote address of the socket. `local_address` returns the local
    address, "" if unknown: a function, because it costs a system call and few requests need it. `id` is for the log and
    the answer.
    """

    peer: str
    scheme: str
    headers: Mapping[str, str]
    local_address: Callable[[], str] = _unknown_address
    id: str = ""

    @classmethod
    def read(
        cls,
        peer: str,
        scheme: str,
        fields: Iterable[tuple[bytes, bytes]],
        *,
        local_address: Callable[[], str] = _unknown_address,
        request_id: str = "",
    ) -> Self:
        """Make a request from raw header `fields` with lower-case names. Joins repeated fields (RFC 9110, 5.2)."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return cls(peer=peer, scheme=scheme, headers=headers, local_address=local_address, id=request_id)


class Gate:
    """The access rules of one gateway.

    `hosts` and `origins` are those that the configuration allows; `bound_host` is the host that the server listens on.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        bound_host: str,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._authenticator = authenticator
        listed = [found for text in (*LOOPBACK_NAMES, bound_host, *hosts) if (found := parse_host(text)) is not None]
        self._hosts = frozenset(host.host for host in listed if host.port is None)
        self._hosts_at_a_port = frozenset(host for host in listed if host.port is not None)
        self._origins = frozenset(map(parse_origin, origins)) - {None}
        self._trusted = [_plain(ip_network(proxy)) for proxy in trusted_proxies]

    def check_host(self, request: Request) -> None:
        """Raise `AccessRefused` (421) unless the Host field names this gateway. This prevents DNS rebinding.

        The address at which the connection arrived is accepted too: rebinding needs a name.
        """
        text = request.headers.get("host", "")
        host = _authority(text)
        if host is None or not (self._lists(host, request) or _is_own_address(host, request)):
            raise AccessRefused(
                421,
                f"expected a Host that is allowed, got {text[:255]!r}: server.allowed_hosts names further ones",
                reason=RefusalReason.HOST,
            )

    def check_origin(self, request: Request) -> None:
        """Raise `AccessRefused` (403) if the request is from a page of another origin that is not allowed."""
        if not self.allows_origin(request):
            raise AccessRefused(
                403,
                f"expected an Origin of the same host, got {request.headers['origin'][:255]!r}:"
                " server.allowed_origins names further ones",
                reason=RefusalReason.ORIGIN,
            )

    def allows_origin(self, request: Request) -> bool:
        """Whether the request has no Origin field, or one of this gateway or one that is allowed."""
        text = request.headers.get("origin", "")
        if not text:
            return True
        origin = _origin(text)
        return origin is not None and (origin in self._origins or origin == self._own_origin(request))

    def authenticate(self, request: Request, token: str | None, role: Role) -> Grant:
        """Return what the bearer of the request's token may do. An Authorization field takes precedence over `token`.

        Raises `AccessRefused`: 401 without a valid token, 403 if it lacks `role`, 503 while tokens cannot be checked.
        """
        return self.grant_of(presented_token(request, token), role)

    def grant_of(self, token: str, role: Role) -> Grant:
        """Return what the bearer of `token` may do, "" if none came. Raises the same errors as `authenticate`."""
        grant = self._identified(token)
        if role not in grant.roles:
            raise AccessRefused(403, f"expected a token with the role {role.value!r}", reason=RefusalReason.ROLE)
        return grant

    def identify(self, request: Request, token: str | None) -> Grant:
        """Authenticate a request that needs no role. Raises `AccessRefused` (401, or 503) as `authenticate` does."""
        return self._identified(presented_token(request, token))

    def _identified(self, token: str) -> Grant:
        reason = RefusalReason.BAD_TOKEN if token else RefusalReason.NO_TOKEN
        if not token.isascii():
            raise AccessRefused(401, "expected a token of ASCII characters (RFC 6750, section 2.1)", reason=reason)
        try:
            return self._authenticator.verify(token)
        except MessageError as error:
            if error.retryable:
                reason = RefusalReason.KEYS_UNAVAILABLE
                raise AccessRefused(503, str(error), reason=reason, retry_after_s=RETRY_S) from error
            raise AccessRefused(401, str(error), reason=reason) from error

    def address(self, request: Request) -> str:
        """Return the client's address: in X-Forwarded-For, the last one that is not of a trusted proxy.

        "unknown" stands for what is no address there.
        """
        address = request.peer
        if not self._trusted:
            return address
        for hop in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            if not self._trusts(address) or not hop.strip():
                break
            address = str(parse_address(hop.strip()) or "unknown")  # some proxies append the port
        return address

    def request_id(self, peer: str, sent: bytes | None) -> str:
        """Return the id of a request from `peer`, with the field X-Request-ID as it was `sent`, if it was.

        It is taken over if it is well-formed and comes from this machine or from a trusted proxy.
        """
        found = request_ids.taken_over(sent)
        if found is not None and (_is_loopback(peer) or self._trusts(peer)):
            return found
        return request_ids.new_id()

    def _lists(self, host: Authority, request: Request) -> bool:
        if host.host in self._hosts:
            return True
        port = host.port if host.port is not None else DEFAULT_PORTS.get(self._scheme(request))
        return Authority(host.host, port) in self._hosts_at_a_port

    def _own_origin(self, request: Request) -> Origin | None:
        host = _authority(request.headers.get("host", ""))
        return None if host is None else origin_of(self._scheme(request), host)

    def _scheme(self, request: Request) -> str:
        if self._trusts(request.peer):
            forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
            return {"ws": "http", "wss": "https"}.get(forwarded, forwarded) or request.scheme
        return request.scheme

    def _trusts(self, address: str) -> bool:
        if not self._trusted:
            return False
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def presented_token(request: Request, token: str | None) -> str:
    """Return the token that counts for a request: that of the Authorization field, or else `token`. "" without any."""
    bearer = bearer_token(request)
    return token or "" if bearer is None else bearer


def bearer_token(request: Request) -> str | None:
    """Return the token of the Authorization field, "" if empty. None without the field, or if the scheme differs."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


_is_loopback = lru_cache(maxsize=64)(is_loopback)
_authority = lru_cache(maxsize=64)(parse_authority)
_origin = lru_cache(maxsize=64)(parse_origin)


def _is_own_address(host: Authority, request: Request) -> bool:
    address = parse_address(host.host)
    return address is not None and address == parse_address(request.local_address())


def _plain(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Convert an IPv4-mapped IPv6 network (``::ffff:192.0.2.0/120``) to IPv4, because peer addresses are converted."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return IPv4Network((mapped, network.prefixlen - 96))
