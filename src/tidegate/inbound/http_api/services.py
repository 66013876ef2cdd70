"""What the routes depend on, and how they find it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any, Literal, Protocol, cast

import msgspec
from litestar import Request
from litestar.datastructures import State

from tidegate.core.access.grant import Coverage
from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.source_values import SourceView
from tidegate.core.readings import Read
from tidegate.core.reloads import ReloadAttempt, Reloaded
from tidegate.core.topics import PatternSet
from tidegate.runtime.admission import Admission, Admissions
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.supervisor import Readiness

ApiRequest = Request[Any, Admission, State]

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

AuthMode = Literal["none", "token", "jwt"]

SERVICES = "services"
"""The key of the services in the application's state."""

OpenStream = Callable[[Admission], ASGIApp]


class Steering(Protocol):
    """The part of `tidegate.runtime.supervisor.Supervisor` that routes use. `allowed` is what the token covers."""

    def readiness(self) -> Readiness: ...

    def coverage(self, allowed: PatternSet) -> Coverage: ...

    def sources(self, allowed: PatternSet) -> Sequence[SourceView]: ...

    def breakers(self, allowed: PatternSet) -> Sequence[BreakerView]: ...

    def breaker(self, name: str, allowed: PatternSet) -> BreakerView: ...

    async def command(self, name: str, action: str, *, by: str, allowed: PatternSet) -> BreakerView: ...

    async def poll(self, backend: str, allowed: PatternSet, *, only: Collection[str]) -> None: ...


class RenderMetrics(Protocol):
    """`tidegate.ports.RenderedMetrics.render`."""

    def __call__(self, coverage: Coverage, *, openmetrics: bool) -> Iterator[bytes]: ...


class Reloading(Protocol):
    """The part of `tidegate.reloading.Reloads` that routes use."""

    @property
    def config_hash(self) -> str: ...

    @property
    def loaded_at(self) -> Instant: ...

    @property
    def needs_restart(self) -> tuple[str, ...]: ...

    @property
    def last(self) -> ReloadAttempt | None: ...

    async def reload(self) -> Reloaded: ...


class ApiOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the HTTP API.

    `publish_bytes` is the longest body, which must arrive within `body_s` seconds. `root_path` is the path prefix under
    which a proxy serves the gateway, whether the proxy strips it or not. `auth` is the kind of token that is needed.
    `frame_ancestors` are the origins of the sites that may show ``/embed`` in a frame, in the form of a CSP.
    """

    version: str
    publish_bytes: int
    body_s: float
    root_path: str = ""
    auth: AuthMode = "none"
    frame_ancestors: tuple[str, ...] = ()

    @property
    def auth_required(self) -> bool:
        """Whether a token is needed at all."""
        return self.auth != "none"


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """The dependencies of the routes, which `http_api` was given."""

    gateway: Gateway
    supervisor: Steering
    admissions: Admissions
    open_stream: OpenStream
    transport_of: Callable[[Any], asyncio.Transport]
    publish: ASGIApp
    render_metrics: RenderMetrics
    reloads: Reloading | None
    read_store: Read | None
    options: ApiOptions


def services(request: ApiRequest) -> Services:
    """Return the services of the application that handles `request`."""
    return cast("Services", request.app.state[SERVICES])
