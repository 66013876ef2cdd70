"""What Tidegate finds by the entry point: the options of a backend, and how one is made of them."""

from typing import Annotated

import msgspec

from tidegate.backends import BackendContext, Secret
from tidegate_nut.backend import NutBackend
from tidegate_nut.upsd import Server


class Nut:
    """The plug-in; see `tidegate.backends.BackendPlugin`."""

    api = 1
    batches = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """The table ``[backends.NAME.options]``. Most servers answer questions without a login."""

        host: str = "127.0.0.1"
        port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 3493
        tls: bool = False
        username: str | None = None
        password: Secret | None = None

        def __post_init__(self) -> None:
            if (self.username is None) != (self.password is None):
                raise ValueError("expected username and password together, got one of them")
            if self.username is not None and not self.username.isprintable():
                raise ValueError("expected a username in one line of printable text")

    def open(self, options: Options, context: BackendContext) -> NutBackend:
        """Make a backend. It connects when it is called."""
        server = Server(
            host=options.host,
            port=options.port,
            tls=context.tls_context() if options.tls else None,
            username=options.username,
            password=options.password,
            answer_bytes=context.response_bytes,
        )
        return NutBackend(server)
