"""Rules between keys: `within` one table, and `across` tables.

A rule sees only values that are valid by themselves. It yields what was expected instead.
"""

from collections.abc import Callable, Collection, Iterator
from functools import singledispatch

from tidegate.config import formats
from tidegate.config.asking_rules import of_asking, of_format
from tidegate.config.backends import BackendConfig, BreakerConfig, SourceConfig
from tidegate.config.connection_rules import of_connection, of_refresh
from tidegate.config.model import AuthConfig, Config, JwtConfig, LimitsConfig, ServerConfig, TokenConfig
from tidegate.config.reader import Mistake, expectation, quoted
from tidegate.config.secret_rules import of_places, of_secrets
from tidegate.config.section import Section
from tidegate.config.session_rules import of_session
from tidegate.core.shaping.pointer import pointer_to, steps
from tidegate.loopback import is_loopback


@singledispatch
def within(section: Section) -> Iterator[Mistake]:
    """Yield the contradictions inside `section`. Their paths are relative to it."""
    yield from ()


@within.register
def _server(section: ServerConfig) -> Iterator[Mistake]:
    yield from _together(section, "tls_cert_file", "tls_key_file")
    if section.drain_min_s > section.drain_s:
        yield Mistake(("drain_min_s",), f"at most drain_s ({section.drain_s} seconds)", str(section.drain_min_s))


@within.register
def _limits(section: LimitsConfig) -> Iterator[Mistake]:
    soft, hard = section.send_buffer_soft_bytes, section.send_buffer_hard_bytes
    if soft >= hard:
        yield Mistake(("send_buffer_soft_bytes",), f"less than send_buffer_hard_bytes ({hard})", str(soft))


@within.register
def _breaker(section: BreakerConfig) -> Iterator[Mistake]:
    if section.open_max_s is not None and section.open_max_s < section.open_s:
        yield Mistake(("open_max_s",), f"at least open_s ({section.open_s} seconds)", str(section.open_max_s))


@within.register
def _backend(section: BackendConfig) -> Iterator[Mistake]:
    yield from _together(section, "client_cert_file", "client_key_file")
    yield from of_secrets(section)
    if not section.is_plugin:  # what holds for a plug-in is only known when it was found: see `plugged`
        yield from _built_in(section)


def _built_in(section: BackendConfig) -> Iterator[Mistake]:
    if section.url is None:
        yield Mistake(
            ("url",), f'{expectation(formats.BackendUrl)}, because protocol is "{section.protocol}"', "nothing"
        )
        return
    if section.options:
        expected = f'no such table, because protocol is "{section.protocol}": it is for plug-ins'
        yield Mistake(("options",), expected, "one")
    if section.protocol == "http" and section.batch:
        yield Mistake(("batch",), 'false, because protocol is "http"', "true")
    if section.protocol == "http" and section.jsonrpc != "2.0":
        yield Mistake(("jsonrpc",), 'no such key, because protocol is "http"', quoted(section.jsonrpc))
    if section.bearer_token_file and "authorization" in map(str.lower, section.headers):
        yield Mistake(("bearer_token_file",), "no such key beside an Authorization header", "both")
    scheme = section.url.partition("://")[0]
    if section.tls_name is not None and scheme not in {"https", "wss"}:
        yield Mistake(("tls_name",), f"no such key, because url begins with {scheme}://, which is without TLS", "one")
    if section.socket is not None and section.proxy is not None:
        yield Mistake(("proxy",), "no such key beside socket", "both")
    yield from of_connection(section)
    yield from of_session(section)


@within.register
def _source(section: SourceConfig) -> Iterator[Mistake]:
    yield from _exactly_one(section, "method", "path")
    yield from of_format(section)
    yield from _shape(section)
    idle = section.idle_interval_s
    if idle is not None and idle < section.interval_s:
        yield Mistake(("idle_interval_s",), f"at least interval_s ({section.interval_s} seconds)", str(idle))


def _shape(section: SourceConfig) -> Iterator[Mistake]:
    items, key, fields = section.items, section.key, section.fields
    if key is not None and items is None:
        yield Mistake(("items",), "a value, because key is given", "nothing")
    if isinstance(items, tuple) and key is not None:
        levels = 1 if isinstance(key, str) else len(key)
        if levels != len(items):
            yield Mistake(("key",), f"an entry for each of the {len(items)} levels of items", f"{levels}")
    elif isinstance(key, tuple) and not all(isinstance(part, str) for part in key):
        yield Mistake(("key",), "names and pointers, because items is one pointer", "a list in the list")
    if fields is not None and not fields:
        yield Mistake(("fields",), "at least one name with a pointer", "an empty table")
    if section.ignore and items is None and not section.on_change:
        yield Mistake(("ignore",), "no such key, unless on_change = true or items is given", "some")
    for number, pointer in enumerate(section.ignore):
        if not pointer:
            yield Mistake(("ignore", number), "a pointer to a part of the data", '"", which is all of it')
        elif fields and steps(pointer)[0] not in fields:
            expected = f"a pointer that begins with one of the fields ({', '.join(map(pointer_to, fields))})"
            yield Mistake(("ignore", number), expected, quoted(pointer))


@within.register
def _token(section: TokenConfig) -> Iterator[Mistake]:
    yield from _exactly_one(section, "token", "token_file")


@within.register
def _jwt(section: JwtConfig) -> Iterator[Mistake]:
    yield from _exactly_one(section, "key_file", "jwks_url", "secret_file")
    symmetric = section.secret_file is not None
    wrong = [name for name in section.algorithms if name.startswith("HS") != symmetric]
    if wrong:
        expected = "HS256 alone, with secret_file" if symmetric else "RS256 or ES256; HS256 goes with secret_file"
        yield Mistake(("algorithms",), expected, ", ".join(wrong))


@within.register
def _auth(section: AuthConfig) -> Iterator[Mistake]:
    match section.mode:
        case "none" if section.tokens or section.jwt:
            what = "tokens" if section.tokens else "[auth.jwt]"
            yield Mistake(("mode",), f'"token" or "jwt", because of {what}', '"none", which lets everyone in')
        case "token" if not section.tokens:
            yield Mistake(("tokens",), 'at least one token, because mode is "token"', "none")
        case "jwt" if section.jwt is None:
            yield Mistake(("jwt",), 'a table with keys, because mode is "jwt"', "nothing")


def across(config: Config, *, backends: Collection[str], is_clean: Callable[[str], bool]) -> Iterator[Mistake]:
    """Yield the contradictions between tables.

    `backends` are the names of all backends, also of those that were refused: a source that names one is not reported a
    second time. `is_clean` returns whether nothing was refused at or under a key.
    """
    if is_clean("auth"):
        yield from _exposed(config)
    for name, source in config.sources.items():
        yield from _source_of_backend(name, source, config, backends)


def without_sources(config: Config, *, is_empty: bool) -> Iterator[Mistake]:
    """Yield a mistake if `config` has no source and does not allow that. `is_empty`: the file has no key at all."""
    if not config.sources and not config.server.allow_no_sources:
        expected = 'at least one table [sources."TYPE"], unless server.allow_no_sources = true (for publishers only)'
        yield Mistake(("sources",), expected, "an empty file" if is_empty else "none")


def _exposed(config: Config) -> Iterator[Mistake]:
    if config.auth.mode == "none" and not is_loopback(config.server.host):
        expected = 'a loopback address such as 127.0.0.1, unless [auth] mode = "token" or "jwt" is set'
        yield Mistake(("server", "host"), expected, f'{quoted(config.server.host)} with mode = "none"')


def _source_of_backend(name: str, source: SourceConfig, config: Config, backends: Collection[str]) -> Iterator[Mistake]:
    path = ("sources", name)
    if source.backend not in backends:
        known = ", ".join(backends) or "there is none"
        yield Mistake((*path, "backend"), f"the name of a backend ({known})", quoted(source.backend))
    backend = config.backends.get(source.backend)
    if backend is not None:
        for mistake in (*of_asking(source, backend), *of_refresh(source, backend), *of_places(source, backend)):
            yield mistake._replace(path=path + mistake.path)


def _together(section: Section, *keys: str) -> Iterator[Mistake]:
    given = [key for key in keys if getattr(section, key) is not None]
    missing = [key for key in keys if key not in given]
    if given:
        for key in missing:
            yield Mistake((key,), f"a value, because {given[0]} is given", "nothing")


def _exactly_one(section: Section, *keys: str) -> Iterator[Mistake]:
    given = [key for key in keys if getattr(section, key) is not None]
    if len(given) != 1:
        yield Mistake((), f"exactly one of {', '.join(keys)}", " and ".join(given) or "none")
