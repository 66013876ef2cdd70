"""What the configuration says of a session over HTTP: what asks for a login, how to log in, and what is kept of it."""

import msgspec

from tidegate.core.masking import Masked, mask_url
from tidegate.ports import Call


class Login(Masked, msgspec.Struct, frozen=True, kw_only=True):
    """A login. `url` is absolute, or relative to that of the backend; "" is the backend's.

    `call` says how it is asked. If `is_rpc` its method and params make a JSON-RPC request; otherwise its method is a
    path below `url`, and its `http` the request. `form` is sent as ``application/x-www-form-urlencoded``.
    """

    url: str = ""
    call: Call
    is_rpc: bool = False
    form: dict[str, str] | None = None

    def public(self) -> dict[str, object]:
        return super().public() | {"url": mask_url(self.url), "form": None if self.form is None else sorted(self.form)}


class HttpSession(Masked, msgspec.Struct, frozen=True, kw_only=True):
    """A session. An answer with a status in `on_status`, or an error in `on_code`, asks for a login.

    `header` is one that every request must have, and that a refusal, or the answer to the login, says. With
    `keeps_cookies`, cookies are sent back. `token` is a JSON Pointer into the answer to the login. If `sends_bearer`,
    the token is sent as ``Authorization: Bearer``; otherwise texts of the backend have a place for it.
    """

    login: Login | None = None
    on_status: frozenset[int] = frozenset({401})
    on_code: tuple[int | str, ...] = ()
    header: str | None = None
    keeps_cookies: bool = False
    token: str | None = None
    sends_bearer: bool = False
