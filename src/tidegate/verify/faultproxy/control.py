"""The control API: controls a fault proxy over HTTP, in JSON. Errors are problem+json (RFC 9457).

It has no authentication. So it checks the Host header against DNS rebinding, and refuses pages of other origins.
"""

import http
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from tidegate.errors import UnknownName
from tidegate.loopback import LOOPBACK_NAMES
from tidegate.verify.faultproxy.faults import FAULTS, fault_from
from tidegate.verify.faultproxy.proxy import FaultProxy

MAX_CALLS_PER_PAGE: Final = 1000
SHUTDOWN_S: Final = 0.5
"""How long requests to the control API may still take when it is closed."""

_Default = TypeVar("_Default", int, None)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PORT: Final = re.compile(r":[0-9]+$")


@asynccontextmanager
async def control_server(proxy: FaultProxy, *, listen: tuple[str, int] = ("127.0.0.1", 0)) -> AsyncIterator[str]:
    """Serve the control API of `proxy` while the context is open. Yields its URL. Raises `OSError`."""
    runner = web.AppRunner(control_app(proxy, host=listen[0]), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, *listen).start()
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def control_app(proxy: FaultProxy, *, host: str = "127.0.0.1") -> web.Application:
    """Return the control API as an application, for a server that listens on `host`."""
    api = _Control(proxy)
    app = web.Application(middlewares=[_only_for(frozenset((*LOOPBACK_NAMES, _bracketed(host.lower())))), _problems])
    app.add_routes(
        [
            web.get("/state", api.state),
            web.get("/faults", api.faults),
            web.put("/faults/{name}", api.set_fault),
            web.delete("/faults", api.clear_all),
            web.delete("/faults/{name}", api.clear),
            web.get("/calls", api.calls),
            web.delete("/calls", api.clear_calls),
            web.post("/release", api.release),
        ]
    )
    return app


class _Control:
    """The handlers, in the order of the routes."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

    async def state(self, _: web.Request) -> web.Response:
        proxy = self._proxy
        return _json(
            {
                "url": proxy.url,
                "upstream": proxy.upstream,
                "down": proxy.is_down,
                "connections": proxy.connections,
                "held": proxy.held,
                **_counts(proxy),
                "faults": proxy.faults,
            }
        )

    async def faults(self, _: web.Request) -> web.Response:
        known = [{"name": name, **_parameters(name)} for name in FAULTS]
        return _json({"active": self._proxy.faults, "known": known})

    async def set_fault(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        body = await request.read()
        parameters = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
        fault = fault_from(name, parameters)
        self._proxy.set(fault)
        return _json(fault)

    async def clear_all(self, _: web.Request) -> web.Response:
        self._proxy.clear()
        return web.Response(status=204)

    async def clear(self, request: web.Request) -> web.Response:
        self._proxy.clear(request.match_info["name"])
        return web.Response(status=204)

    async def calls(self, request: web.Request) -> web.Response:
        after, limit = _whole(request, "after", 0), _whole(request, "limit", MAX_CALLS_PER_PAGE)
        page = [record for record in self._proxy.calls if record.number > after]
        return _json({**_counts(self._proxy), "calls": page[: min(limit, MAX_CALLS_PER_PAGE)]})

    async def clear_calls(self, _: web.Request) -> web.Response:
        self._proxy.calls.clear()
        return web.Response(status=204)

    async def release(self, request: web.Request) -> web.Response:
        return _json({"released": self._proxy.release(_whole(request, "count", None))})


def _counts(proxy: FaultProxy) -> dict[str, int]:
    calls = proxy.calls
    return {"total": calls.total, "concurrent": calls.concurrent, "max_concurrent": calls.max_concurrent}


def _parameters(name: str) -> dict[str, Any]:
    return {"parameters": {key: value for key, value in msgspec.to_builtins(FAULTS[name]()).items() if key != "name"}}


def _whole(request: web.Request, name: str, default: _Default) -> int | _Default:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError(f"{name}: expected a whole number, got {text[:80]!r}")
    return int(text)


def _only_for(names: frozenset[str]) -> Middleware:
    """Return a middleware that refuses requests with another Host than `names` or the connection's own address.

    It also refuses requests from pages of other origins.
    """

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        hosts = [host.lower() for host in request.headers.getall("Host", [])]
        own = request.transport.get_extra_info("sockname")[0] if request.transport else ""
        if len(hosts) != 1 or _PORT.sub("", hosts[0]) not in names | {_bracketed(own)}:
            asked = ", ".join(hosts)[:255]
            return _problem(421, f"expected a Host that is this machine or the address of this port, got {asked!r}")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{hosts[0]}":
            return _problem(403, f"expected no Origin but http://{hosts[0]}, got {origin[:255]!r}")
        return await handler(request)

    return check


def _bracketed(host: str) -> str:
    """Return `host` as it appears in a Host header: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


@web.middleware
async def _problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except UnknownName as error:
        return _problem(404, str(error))
    except (msgspec.DecodeError, ValueError) as error:
        return _problem(400, str(error))
    except OSError as error:
        return _problem(409, f"expected the listening port to be free: {error}")
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _problem(error.status, error.reason)


def _problem(status: int, detail: str) -> web.Response:
    title = http.HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return _json(problem, status=status, content_type="application/problem+json")


def _json(value: object, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=content_type)
