"""The settings of one backend's HTTP: URL, socket, limits, headers, credentials, TLS.

Turns them into what a request needs.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from multidict import CIMultiDict
from yarl import URL

from tidegate import __version__, files
from tidegate.core.masking import Masked, mask_headers, mask_url
from tidegate.errors import ConfigError, Problem
from tidegate.outbound.http_client.proxying import AUTHORIZATION, basic, proxy_authorization
from tidegate.secret_place import SecretPlace

_ZONE = re.compile(r"%.*(?=\])")
"""The zone of an IPv6 address. It has a meaning only on this machine, and servers refuse it (RFC 6874 section 1)."""

SOCKET_BYTES = 107
"""The kernel's limit on the path of a Unix socket, without the NUL at its end (unix(7))."""


_OURS = frozenset({"accept-encoding", "content-length", "transfer-encoding"})
"""Headers that the client sets itself: the coding of the answer, and how long the body is."""

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Servers expect a body with these, so its length is told even if it is 0 (RFC 9110 section 8.6)."""


class TlsSettings(Protocol):
    """The files of a backend's TLS, as `HttpOptions` explains them."""

    @property
    def ca_file(self) -> Path | None: ...
    @property
    def client_cert_file(self) -> Path | None: ...
    @property
    def client_key_file(self) -> Path | None: ...


class HttpOptions(Masked, msgspec.Struct, frozen=True, tag=True):
    """The HTTP settings of one backend, which are the same for every protocol over HTTP.

    With a path in `socket`, connections lead to that Unix socket, and no longer to the host of `url`, which goes on
    saying what is asked: scheme, ``Host`` and path. With TLS, the certificate must be for `tls_name`, which the server
    is told too (SNI); by default it is the host of `url`.

    With a URL in `proxy`, connections lead to that HTTP proxy, which connects to the host of `url`. No other proxy is
    ever used. It cannot be combined with `socket`.

    `response_bytes` limits the body of one answer. `headers` are sent with every request, and take precedence over user
    name and password in `url`. The token in `bearer_token_file` takes precedence over both. `secrets` says where the
    secrets are whose names stand in braces in the other texts. `HttpClient` takes texts as they are, and reads neither
    token nor secrets: its caller does, for each request. `ca_file` replaces the system's certificate authorities.
    `client_key_file` is not needed if the key is in `client_cert_file`. An idle connection is kept for `idle_s`
    seconds. One that is `connection_max_s` seconds old is closed after its current call.
    """

    url: str
    socket: Path | None = None
    tls_name: str | None = None
    proxy: str | None = None
    response_bytes: int = 8_388_608
    headers: dict[str, str] = {}
    secrets: Mapping[str, SecretPlace] = {}
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    connection_max_s: float = 300.0
    idle_s: float = 20.0

    def public(self) -> dict[str, object]:
        masked = {"url": mask_url(self.url), "headers": mask_headers(self.headers)}
        return super().public() | masked | {"proxy": self.proxy and mask_url(self.proxy)}


def address(options: HttpOptions) -> URL:
    """Return the URL for requests, without user name and password. Raises `ConfigError` if it is not an HTTP URL."""
    try:
        url = URL(options.url)
        host = url.host  # raises for a name that cannot be decoded
        _credentials(url)
    except ValueError as exc:
        raise ConfigError([_no_address("text that is no URL")]) from exc
    if url.scheme not in {"http", "https"} or not host:
        raise ConfigError([_no_address(str(url.with_user(None)) if host else "an address without a host")])
    return url.with_user(None).with_fragment(None)


def socket_path(options: HttpOptions) -> Path | None:
    """Return the path of the Unix socket, None without one. Raises `ConfigError` if it is too long."""
    path = options.socket
    if path is not None and (size := len(os.fsencode(path))) > SOCKET_BYTES:
        expected = f"a path of at most {SOCKET_BYTES} bytes, the kernel's limit (a link to the socket may be shorter)"
        raise ConfigError([Problem("socket", expected, f"{size} bytes: {path}")])
    return path


def peer(url: URL) -> str:
    """Return the name of `url` for messages: host and port, which are not secret."""
    host = url.host or ""
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def fixed_headers(options: HttpOptions) -> CIMultiDict[str]:
    """Return the headers that are the same for every request.

    They ask for an uncompressed answer: a few compressed bytes can unpack to any size, so a limit on received bytes
    would not limit memory. `options.headers` cannot set the headers that say how long the body is.
    """
    headers = CIMultiDict({"User-Agent": f"tidegate/{__version__}", "Accept": "application/json"})
    headers.update(_credentials(URL(options.url)))
    if options.proxy is not None and (authorization := proxy_authorization(options.proxy)) is not None:
        headers[AUTHORIZATION] = authorization
    headers.update(options.headers)
    headers["Accept-Encoding"] = "identity"
    headers.setdefault("Host", authority(address(options)))
    for ours in ("Content-Length", "Transfer-Encoding"):
        headers.pop(ours, None)
    return headers


def keeps_connections(headers: CIMultiDict[str]) -> bool:
    """Whether requests with `headers` leave the connection open, because they have no ``Connection: close``."""
    options = ",".join(headers.getall("Connection", [])).split(",")
    return "close" not in {option.strip().lower() for option in options}


def merged(fixed: CIMultiDict[str], headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return `fixed`, of which `headers` replace those of the same name, except what the client sets itself."""
    fields = CIMultiDict(fixed)
    fields.update([(name, value) for name, value in headers.items() if name.lower() not in _OURS])
    return fields


def request_target(url: URL, *, absolute: bool) -> str:
    """Return how a request names `url`: its path and query, or all of it if it is `absolute`, as proxies want it."""
    return f"{url.scheme}://{authority(url)}{url.raw_path_qs}" if absolute else url.raw_path_qs


def authority(url: URL) -> str:
    """Return the host of `url`, with the port unless it is the usual one."""
    return _ZONE.sub("", url.host_port_subcomponent or "")


def encoded(method: str, target: str, fields: CIMultiDict[str], body: bytes | None) -> bytes:
    """Encode a whole HTTP/1.1 request.

    Raises `ValueError` for a line break in a header, which could smuggle another header or request.
    """
    fields = CIMultiDict(fields)
    if body is not None or method in _WITH_BODY:
        fields["Content-Length"] = str(len(body or b""))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    head = "\r\n".join(lines).encode()
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise ValueError("expected headers of one line each, got a line break in one")
    return head + (body or b"")


def tls_context(options: TlsSettings) -> ssl.SSLContext:
    """Make the TLS context. Reads files. Raises `ConfigError`, which names the setting at fault."""
    context = _trusting(options.ca_file)
    if options.client_cert_file is not None:
        try:
            for file in (options.client_cert_file, options.client_key_file):
                if file is not None:
                    files.check(file)
            # With an empty password, OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(options.client_cert_file, options.client_key_file, password="")
        except OSError as exc:
            expected = "a PEM file with a certificate and its unencrypted key"
            raise ConfigError([Problem("client_cert_file", expected, _unread(options.client_cert_file, exc))]) from exc
    return context


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        if ca_file is not None:
            files.check(ca_file)
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        expected = "a PEM file with the certificates of authorities"
        raise ConfigError([Problem("ca_file", expected, _unread(ca_file, exc))]) from exc


def _credentials(url: URL) -> dict[str, str]:
    """Return the header for user and password in `url`. Raises `ValueError` for a colon in the user (RFC 7617, 2)."""
    if url.user is None:
        return {}
    return {"Authorization": basic(url.user, url.password or "")}


def _unread(path: Path | None, exc: OSError) -> str:
    reason = exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror
    return f"{path} ({reason or 'not usable'})"


def _no_address(got: str) -> Problem:
    return Problem("url", "an address that begins with http:// or https://", got)
