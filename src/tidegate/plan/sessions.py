"""Makes of a backend's keys how the gateway logs in over HTTP."""

from collections.abc import Iterable

import msgspec

from tidegate.config import BackendConfig, SourceConfig
from tidegate.config.backends import SessionConfig
from tidegate.core.envelope import raw
from tidegate.core.templates import TOKEN, names
from tidegate.outbound.backends.sessions.options import HttpSession, Login
from tidegate.ports import Call, HttpRequest


def http_session(backend: BackendConfig, sources: Iterable[SourceConfig]) -> HttpSession | None:
    """Return the session of `backend`, which has these `sources`; None if it needs none."""
    session = backend.session
    if not session.has_login and session.header is None:
        return None
    return HttpSession(
        login=_login(session, backend) if session.has_login else None,
        on_status=frozenset(session.on_status),
        on_code=session.on_code,
        header=session.header,
        keeps_cookies=session.keep == "cookies",
        token=session.token,
        sends_bearer=session.token is not None and not _has_place(backend, sources),
    )


def _login(session: SessionConfig, backend: BackendConfig) -> Login:
    is_rpc = backend.protocol == "jsonrpc" and session.method is not None and session.form is session.body is None
    path = session.method or session.path or ""
    http = None if is_rpc else _request(session)
    return Login(url=session.url or "", call=Call(path, raw(session.params), http), is_rpc=is_rpc, form=session.form)


def _request(session: SessionConfig) -> HttpRequest:
    body = session.body.encode() if isinstance(session.body, str) else session.body
    usual = {"Content-Type": "text/plain; charset=utf-8"} if isinstance(body, bytes) else {}
    given = {name.lower() for name in session.headers}
    return HttpRequest(
        verb=session.verb or ("GET" if session.form is body is None else "POST"),
        headers={name: value for name, value in usual.items() if name.lower() not in given} | session.headers,
        body=body if body is None or isinstance(body, bytes) else bytes(raw(body)),
    )


def _has_place(backend: BackendConfig, sources: Iterable[SourceConfig]) -> bool:
    """Return whether some text has a place for the token."""
    texts: list[object] = [backend.url, backend.headers]
    for source in sources:
        texts += [source.method, source.path, source.params, source.body, source.headers]
    return TOKEN in names(msgspec.to_builtins(texts))
