"""How a backend is reached: address, limits, headers, credentials, TLS. Turns settings into what a request needs."""

import asyncio
import base64
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec
from multidict import CIMultiDict
from yarl import URL

from tidegate import __version__, files
from tidegate.core.masking import Masked, mask_headers, mask_url
from tidegate.errors import ConfigError, NoCredentials, Problem
from tidegate.token_file import TOKEN_BYTES, NoToken, read_token

_ZONE = re.compile(r"%.*(?=\])")
"""Of an IPv6 address: it means something on this machine alone, and servers refuse it (RFC 6874 section 1)."""


class HttpOptions(Masked, msgspec.Struct, frozen=True):
    """Everything about one backend's HTTP that its protocol does not decide.

    `response_bytes` bounds one answer's body. `headers` go with every request and win over user name and password
    in `url`; the token in `bearer_token_file` wins over both, and is read anew for each request, so it may rotate.
    `ca_file` replaces the system's authorities; `client_key_file` may be left out if the key lies in
    `client_cert_file`. A connection is kept for `idle_s` seconds without a call, and not beyond the call during which
    it becomes `connection_max_s` seconds old.
    """

    url: str
    response_bytes: int = 8_388_608
    headers: dict[str, str] = {}
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    connection_max_s: float = 300.0
    idle_s: float = 20.0

    def public(self) -> dict[str, object]:
        return super().public() | {"url": mask_url(self.url), "headers": mask_headers(self.headers)}


def address(options: HttpOptions) -> URL:
    """Where requests go, without user name and password. Raises `ConfigError` if `url` is no HTTP address."""
    try:
        url = URL(options.url)
        host = url.host  # raises for a name that cannot be decoded
        _credentials(url)
    except ValueError as exc:
        raise ConfigError([_no_address("text that is no URL")]) from exc
    if url.scheme not in {"http", "https"} or not host:
        raise ConfigError([_no_address(str(url.with_user(None)) if host else "an address without a host")])
    return url.with_user(None).with_fragment(None)


def peer(url: URL) -> str:
    """`url` as messages name it: host and port, and nothing that could be secret."""
    host = url.host or ""
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def fixed_headers(options: HttpOptions) -> CIMultiDict[str]:
    """The headers that are the same on every request.

    Compressed answers are not asked for: what a few bytes unpack to is not bounded by counting what came. How long a
    body is, is not for `options` to say.
    """
    headers = CIMultiDict({"User-Agent": f"tidegate/{__version__}", "Accept": "application/json"})
    headers.update(_credentials(URL(options.url)))
    headers.update(options.headers)
    headers["Accept-Encoding"] = "identity"
    headers.setdefault("Host", _ZONE.sub("", address(options).host_port_subcomponent or ""))
    for ours in ("Content-Length", "Transfer-Encoding"):
        headers.pop(ours, None)
    return headers


def keeps_connections(headers: CIMultiDict[str]) -> bool:
    """Whether requests with `headers` leave the connection open: not with ``Connection: close``."""
    options = ",".join(headers.getall("Connection", [])).split(",")
    return "close" not in {option.strip().lower() for option in options}


def encoded(method: str, url: URL, fixed: CIMultiDict[str], headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A whole HTTP/1.1 request; `headers` win over `fixed`. Raises `ValueError` for a line break in a header."""
    fields = CIMultiDict(fixed)
    fields.update(headers)
    if body is not None:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    head = "\r\n".join(lines).encode()
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise ValueError("expected headers of one line each, got a line break in one")
    return head + (body or b"")


async def authorization(options: HttpOptions) -> dict[str, str]:
    """The header with the bearer token as it lies on disk now; empty without `bearer_token_file`.

    Raises `NoCredentials` if the file cannot be read or holds no token.
    """
    if options.bearer_token_file is None:
        return {}
    return {"Authorization": f"Bearer {await asyncio.to_thread(_read_token, options.bearer_token_file)}"}


def tls_context(options: HttpOptions) -> ssl.SSLContext:
    """What a TLS handshake with the backend needs. Reads files; raises `ConfigError` naming the setting at fault."""
    context = _trusting(options.ca_file)
    if options.client_cert_file is not None:
        try:
            for file in (options.client_cert_file, options.client_key_file):
                if file is not None:
                    files.check(file)
            # The empty password keeps OpenSSL from asking the terminal for one.
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
    """The header for user and password in `url`. Raises `ValueError` for a user with a colon (RFC 7617, section 2)."""
    if url.user is None:
        return {}
    if ":" in url.user:
        raise ValueError("expected a user without a colon, got one with a colon")
    pair = f"{url.user}:{url.password or ''}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _read_token(path: Path) -> str:
    try:
        return read_token(path)
    except OSError as exc:
        raise NoCredentials(f"expected a bearer token in {path}, got {exc.strerror}") from exc
    except NoToken as exc:
        raise NoCredentials(
            f"expected a bearer token in {path}: one line of at most {TOKEN_BYTES} printable ASCII characters, "
            f"got {'an empty file' if exc.is_empty else 'something else'}"
        ) from exc


def _unread(path: Path | None, exc: OSError) -> str:
    reason = exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror
    return f"{path} ({reason or 'not usable'})"


def _no_address(got: str) -> Problem:
    return Problem("url", "an address that begins with http:// or https://", got)
