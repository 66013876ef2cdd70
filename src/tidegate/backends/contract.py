"""The contract between the gateway and a plug-in: what a plug-in has, and what it is given to open a backend."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tidegate.ports import Backend, Clock
from tidegate.secret import Secret

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

API = 1
"""The version of this contract. A plug-in says in `BackendPlugin.api` which one it was written for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendContext:
    """What a plug-in is given, besides its options, to open one backend.

    `name` is the name of the backend in the configuration. `timeout_s` is how many seconds a call may take: the gateway
    sees to that, a plug-in need not. `response_bytes` is the longest answer that a plug-in should read. `secrets` are
    those of ``[backends.NAME.secrets]``, by name; most plug-ins use the `Secret`s among their options instead. `clock`
    is the gateway's; a test may stop it. `log` names the backend and the plug-in in each line; what it is given must
    not contain a secret. `tls` is what `tls_context` calls.
    """

    name: str
    timeout_s: float
    response_bytes: int
    secrets: Mapping[str, Secret]
    clock: Clock
    log: "FilteringBoundLogger"
    tls: Callable[[], ssl.SSLContext]

    def tls_context(self) -> ssl.SSLContext:
        """Return a new TLS context, with the backend's `ca_file`, `client_cert_file` and `client_key_file`.

        Reads these files, so call it in `BackendPlugin.open`. Raises `ConfigError` if one cannot be used.
        """
        return self.tls()


class BackendPlugin(Protocol):
    """A kind of backend. An entry point names an object like this, or a class of it that takes no arguments.

    `api` is the version of this contract that it was written for; see `API`. `batches`: whether its backends take
    several calls in one exchange. `Options` is a `msgspec.Struct` for the table ``[backends.NAME.options]``. Its types
    and constraints are checked when a configuration is loaded, and unknown keys are refused. Two types have a meaning
    of their own there: a `Secret` is a text with secrets of ``[backends.NAME.secrets]``, such as ``"{password}"``, and
    a `pathlib.Path` is relative to the configuration's file.
    """

    api: int
    batches: bool
    Options: type[msgspec.Struct]

    def open(self, options: Any, context: BackendContext) -> Backend:
        """Make the backend that `options`, an instance of `Options`, describe.

        Called on the event loop, so it must return at once. It connects nothing: a backend connects when it is called.
        `Secret.reveal` cannot be used here yet. In a call it gives the text as it is at that time: files and variables
        are read anew before each exchange.

        Raises `ConfigError` with paths relative to the backend's table, such as ``options.host``, for what only a human
        can mend; the gateway then refuses to start. After any other error the gateway runs, the sources of this backend
        are told as failed, and `open` is called again at their next poll.
        """
        ...
