"""What `config check` accepts can match: each accepted host and origin lets in the request that it is meant for.

The requests are built as a browser builds them, from the parts that Python's own URL parser finds.
"""

from ipaddress import IPv6Address
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import asdict

from tidegate.config import Config, from_document
from tidegate.errors import AccessRefused, ConfigError
from tidegate.outbound.auth import OpenAuthenticator
from tidegate.plan import plan
from tidegate.runtime.access import Gate, Request

NAMES = ["gw.example", "GW.Example", "localhost", "a", "xn--bcher-kva.example", "_x.example", "a--b", "0x", "1.2.3.4"]
ADDRESSES = ["192.0.2.7", "[2001:db8::7]", "[2001:DB8:0::7]", "[::ffff:192.0.2.7]", "[fe80::1]", "[::]"]
HOSTS = st.sampled_from([*NAMES, *ADDRESSES])
MADE_OF_PARTS = st.builds("{}{}{}".format, HOSTS, st.sampled_from(["", "."]), st.just(""))
BARE = st.sampled_from(["2001:db8::7", "::1", "fe80::1%eth0", "[fe80::1%eth0]", "FE80::1%25eth0"])
ANY_TEXT = st.text("aZ0._-:%[]*/@ \u00fc", max_size=8)
ENTRIES = st.one_of(MADE_OF_PARTS, BARE, ANY_TEXT)

PORTS = ["", ":", ":80", ":443", ":0443", ":8080", ":65535", ":0", ":65536", ":x"]
SCHEMES = ["http", "https", "HTTPS", "app", "chrome-extension", "capacitor", "1x", ""]
ORIGINS = st.one_of(
    st.builds(
        "{}://{}{}".format,
        st.sampled_from(SCHEMES),
        st.one_of(ENTRIES, st.sampled_from(["127.1", "0x7f.1", "1.2.3", "a.1"])),
        st.sampled_from([*PORTS, "/", "?", "/app"]),
    ),
    st.just("null"),
)
DEFAULT_PORTS = {"http": 80, "https": 443}


def checked(**server: object) -> Config:
    """The configuration, if `config check` accepts it; else the example is not one."""
    try:
        return from_document({"server": {"state_dir": "", **server}}, environ={})
    except ConfigError:
        assume(False)
        raise


def keeper(config: Config) -> Gate:
    return Gate(authenticator=OpenAuthenticator(), **asdict(plan(config).access))


def browsers_host(name: str) -> str:
    """A host as it stands in a browser's URL."""
    bare = name.strip("[]").partition("%")[0]
    return f"[{IPv6Address(bare)}]" if ":" in bare else bare.lower()


def sent(host: str, *, origin: str = "", scheme: str = "http") -> Request:
    return Request(peer="192.0.2.1", scheme=scheme, headers={"host": host, "origin": origin})


@given(ENTRIES, st.sampled_from(["http", "https"]), st.sampled_from(["", ".", ":80", ".:443", ":9999"]))
def test_an_accepted_host_lets_in_who_asks_for_it(entry: str, scheme: str, rest: str) -> None:
    gate = keeper(checked(allowed_hosts=[entry]))
    host = browsers_host(entry).removesuffix(".")
    gate.check_host(sent(host + (rest.lstrip(".") if host.startswith("[") else rest), scheme=scheme))
    for other in (f"evil-{host}", f"{host}.evil", f"{host}..", f"{host}@evil"):
        with pytest.raises(AccessRefused):
            gate.check_host(sent(other, scheme=scheme))


@given(ORIGINS)
def test_an_accepted_origin_lets_in_the_page_that_it_names(entry: str) -> None:
    gate = keeper(checked(allowed_hosts=["gw.example"], allowed_origins=[entry]))
    if entry == "null":
        return gate.check_origin(sent("gw.example", origin="null"))
    parts = urlsplit(entry.replace("%25", "%"))
    assert parts.hostname
    host, port = browsers_host(parts.hostname), parts.port
    origin = f"{parts.scheme}://{host}{'' if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f':{port}'}"
    gate.check_origin(sent("gw.example", origin=origin))
    for other in (f"{parts.scheme}://evil-{host.strip('[]:')}", f"{origin}1", f"{origin}/", f"{origin}@evil", "null"):
        with pytest.raises(AccessRefused):
            gate.check_origin(sent("gw.example", origin=other))
    return None


@pytest.mark.parametrize(
    ("entry", "peer"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"),
        ("2001:db8::/32", "2001:db8::7"),
        ("fe80::1", "fe80::1%eth0"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("fe80::%eth0/64", "fe80::1%eth0"),
    ],
)
def test_an_accepted_proxy_is_believed(entry: str, peer: str) -> None:
    gate = keeper(checked(trusted_proxies=[entry]))
    asked = Request(peer=peer, scheme="http", headers={"x-forwarded-for": f"203.0.113.9, {peer}"})
    assert gate.address(asked) == "203.0.113.9"


@pytest.mark.parametrize("bound", ["::1", "[::1]", "fe80::1%lo", "127.0.0.1", "LocalHost", "gw.example."])
def test_the_bound_host_is_ours(bound: str) -> None:
    gate = Gate(authenticator=OpenAuthenticator(), bound_host=bound)
    for rest in ("", ":80", ":12080"):
        gate.check_host(sent(browsers_host(bound).removesuffix(".") + rest))


REFUSED: list[tuple[str, str]] = [
    ("allowed_hosts", "[::1"),
    ("allowed_hosts", "::1]"),
    ("allowed_hosts", "b\u00fccher.example"),
    ("allowed_hosts", "x" * 300),
    ("allowed_hosts", "gw.example:"),
    ("allowed_origins", "https://app.example/app"),
    ("allowed_origins", "https://b\u00fccher.example"),
    ("allowed_origins", "https://app.example:0"),
    ("allowed_origins", "http://127.1"),
    ("allowed_origins", "https://ex%61mple"),
]


@pytest.mark.parametrize(("setting", "entry"), REFUSED)
def test_what_could_never_match_is_refused(setting: str, entry: str) -> None:
    with pytest.raises(ConfigError, match=rf"server\.{setting}\[0\]: expected an? "):
        from_document({"server": {setting: [entry]}}, environ={})
