"""Which keys of a session go together, and with the protocol and the connection of its backend."""

from collections.abc import Iterator

from tidegate.config.backends import BackendConfig, SessionConfig
from tidegate.config.connection_rules import is_persistent
from tidegate.config.reader import Mistake
from tidegate.core.templates import TOKEN, names

_EMPTY = SessionConfig()

_OF_HTTP = ("url", "path", "form", "body", "verb", "headers", "keep", "token", "header", "on_status")
"""Keys of a session over HTTP. A connection that lasts is a session by itself."""


def of_session(backend: BackendConfig) -> Iterator[Mistake]:
    """Yield what is wrong with the session of `backend`."""
    session = backend.session
    if is_persistent(backend):
        for key in _OF_HTTP:
            if getattr(session, key) != getattr(_EMPTY, key):
                yield _mistake(key, "no such key, because a connection that lasts is the session", "one")
        return
    yield from _login(session, backend)
    for key in ("on_status", "on_code"):
        if getattr(session, key) != getattr(_EMPTY, key) and not session.has_login and session.header is None:
            yield _mistake(key, "a login (method, path, url, form or body) or a header beside it", "neither")
    if backend.protocol == "http" and session.on_code:
        yield _mistake("on_code", 'none, because protocol is "http"', "some")
    if session.token is not None and TOKEN in backend.secret_names:
        yield Mistake(("secrets",), f"no secret of the name {TOKEN}, because the login gives {{{TOKEN}}}", "one")


def _login(session: SessionConfig, backend: BackendConfig) -> Iterator[Mistake]:
    given = [key for key in ("keep", "token") if getattr(session, key) is not None]
    if not session.has_login:
        for key in (*given, *(key for key in ("params", "verb", "headers") if getattr(session, key))):
            yield _mistake(key, "a login beside it (method, path, url, form or body)", "none")
        return
    if not given and session.header is None:
        yield Mistake(("session",), "keep, token or header: what the login gives", "none of them")
    for one, other in (("method", "path"), ("form", "body")):
        if getattr(session, one) is not None and getattr(session, other) is not None:
            yield _mistake(other, f"no such key beside {one}", "both")
    if session.params and (backend.protocol == "http" or session.method is None):
        yield _mistake("params", "none, unless method is that of a JSON-RPC login", "some")
    texts = (session.url, session.method, session.path, session.params, session.form, session.body, session.headers)
    if session.token is not None and TOKEN in names(texts):
        yield Mistake(("session",), f"a login without {{{TOKEN}}}, which it is to give", "one with it")


def _mistake(key: str, expected: str, got: str) -> Mistake:
    return Mistake(("session", key), expected, got)
