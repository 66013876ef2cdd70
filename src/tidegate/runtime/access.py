"""Who may come in: host, origin, token and room, asked of every request in this order."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Self

import msgspec

from tidegate.core.grant import Grant, Role
from tidegate.errors import AccessRefused, MessageError
from tidegate.ports import Authenticator

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(?::[0-9]+)?")
"""Host and port of a Host field (RFC 9110 section 7.2), in lower case: without the user that a URL may name."""

RETRY_S = 2
"""When to come back while the keys to check a token with are not there yet."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a request. `headers` have lower-case names; `peer` is the address of the socket's other end."""

    peer: str
    scheme: str
    headers: Mapping[str, str]

    @classmethod
    def read(cls, peer: str, scheme: str, fields: Iterable[tuple[bytes, bytes]]) -> Self:
        """With the header `fields` as they came, names in lower case: repeated ones are joined (RFC 9110, 5.2)."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return cls(peer=peer, scheme=scheme, headers=headers)


class Admission(msgspec.Struct, frozen=True):
    """Who came in: what it may do, and its address (behind a trusted proxy, the one that the proxy names)."""

    grant: Grant
    address: str


class Gate:
    """The rules of one gateway.

    `hosts` and `origins` are those of the configuration; `bound_host` is the name that the server listens on.
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
        self._hosts = LOOPBACK_NAMES | {_bracketed(bound_host), *map(_bracketed, hosts)}
        self._origins = frozenset(map(str.lower, origins))
        self._trusted = [ip_network(proxy) for proxy in trusted_proxies]

    def check_host(self, request: Request) -> None:
        """Raise `AccessRefused` (421) unless the host that was asked for is one of ours: no DNS rebinding."""
        host = self._host(request)
        if host not in self._hosts and _without_port(host) not in self._hosts:
            raise AccessRefused(
                421, f"expected a Host that is allowed, got {host[:255]!r}: server.allowed_hosts names further ones"
            )

    def check_origin(self, request: Request) -> None:
        """Raise `AccessRefused` (403) for a browser's page of another host that is not listed."""
        if not self.allows_origin(request):
            raise AccessRefused(
                403,
                f"expected an Origin of the same host, got {request.headers['origin'][:255]!r}:"
                " server.allowed_origins names further ones",
            )

    def allows_origin(self, request: Request) -> bool:
        """Whether the page that asks, if it is one, is of the same host or listed."""
        origin = request.headers.get("origin", "").lower()
        if not origin or origin in self._origins:
            return True
        return origin == f"{self._scheme(request)}://{self._host(request)}"

    def authenticate(self, request: Request, token: str | None, role: Role) -> Admission:
        """Whose token it is; a header wins over `token`, that of the query.

        Raises `AccessRefused`: 401 without a valid one, 403 if it lacks `role`, 503 while nobody can tell.
        """
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else token or ""
        if not token.isascii():
            raise AccessRefused(401, "expected a token of ASCII characters (RFC 6750, section 2.1)")
        try:
            grant = self._authenticator.verify(token)
        except MessageError as error:
            if error.retryable:
                raise AccessRefused(503, str(error), retry_after_s=RETRY_S) from error
            raise AccessRefused(401, str(error)) from error
        if role not in grant.roles:
            raise AccessRefused(403, f"expected a token with the role {role.value!r}")
        return Admission(grant, self._address(request))

    def _host(self, request: Request) -> str:
        host = request.headers.get("host", "").lower()
        default = ":443" if self._scheme(request) == "https" else ":80"
        return host.removesuffix(default)

    def _scheme(self, request: Request) -> str:
        if self._trusts(request.peer):
            forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
            return {"ws": "http", "wss": "https"}.get(forwarded, forwarded) or request.scheme
        return request.scheme

    def _address(self, request: Request) -> str:
        """The first address from the right that no trusted proxy added."""
        address = request.peer
        for hop in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            if not self._trusts(address) or not hop.strip():
                break
            address = hop.strip()
        return address

    def _trusts(self, address: str) -> bool:
        if not self._trusted:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        # An IPv6 socket that also takes IPv4 shows such peers as ::ffff:192.0.2.1.
        plain = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(plain in network for network in self._trusted)


def _bracketed(host: str) -> str:
    """`host` as a Host field has it; a name or IPv4 address may come with a port, an IPv6 address only in brackets."""
    return f"[{host.lower()}]" if host.count(":") > 1 and not host.startswith("[") else host.lower()


@lru_cache(maxsize=64)
def _without_port(host: str) -> str:
    found = _HOST.fullmatch(host)
    return found[1] if found else ""
