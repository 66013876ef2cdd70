"""Reads the secrets of one backend anew for each exchange, and makes of them what the exchange is authenticated with.

Needs only the options. Knows nothing of clients, connections and protocols.
"""

import os
from collections.abc import Mapping

import msgspec
from multidict import CIMultiDict
from yarl import URL

from tidegate import secret_place
from tidegate.core.masking import is_harmless_header
from tidegate.core.templates import names
from tidegate.errors import NoCredentials, Problem
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.http_client import PROXY_AUTHORIZATION, HttpOptions, OwnThread, basic
from tidegate.secret import Secret
from tidegate.secret_place import SecretPlace

_BEARER = "bearer token"
"""The name of the token among the secrets. It has a space in it, so no place in a text can mean it."""

_NEVER_OURS = frozenset({"accept-encoding", "content-length", "transfer-encoding"})
"""Headers that only the HTTP client sets."""


class CredentialsReader:
    """Makes the `Credentials` of each exchange that `options` describe, for use in one event loop.

    Their headers are those of the options that hold a secret, or may: user name and password of the URL and of the
    proxy, all headers that are not known to be harmless, and the bearer token. A later one in this list takes
    precedence.
    """

    def __init__(self, options: HttpOptions, *, environ: Mapping[str, str] = os.environ) -> None:
        urls = {"Authorization": URL(options.url), PROXY_AUTHORIZATION: URL(options.proxy or "")}
        self._users = {name: (url.user, url.password or "") for name, url in urls.items() if url.user is not None}
        self._headers = _secret_headers(options)
        self._given = [Secret(password) for _, password in self._users.values() if password]
        self._secrets = SecretReader(places(options), environ=environ)

    async def read(self) -> Credentials:
        """Read the secrets, and return what they make. Raises `NoCredentials` if one is missing or unusable.

        Cancelling returns at once.
        """
        return self._made(await self._secrets.read())

    def _made(self, named: Mapping[str, Secret]) -> Credentials:
        filling = Credentials(named)
        headers: CIMultiDict[str] = CIMultiDict()
        for name, user in self._users.items():
            headers[name] = authorization(*map(filling.text, user))
        headers.update({name: filling.text(value) for name, value in self._headers.items()})
        if (token := named.get(_BEARER)) is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        return Credentials(named, headers=headers, given=self._given)


class SecretReader:
    """Reads the secrets at `places`, by name, for use in one event loop. Nothing needs to be closed.

    Files are read in a thread of their own, because they may be on a server that is gone.
    """

    def __init__(self, places: Mapping[str, SecretPlace], *, environ: Mapping[str, str] = os.environ) -> None:
        self._places = dict(places)
        self._environ = environ
        named = ", ".join(str(place.file) for place in places.values() if place.file is not None)
        self._reading = OwnThread(self._read, name=f"read {named}") if named else None

    async def read(self) -> Mapping[str, Secret]:
        """Return all secrets by name. Raises `NoCredentials` if one is missing or unusable.

        Cancelling returns at once.
        """
        try:
            return self._read() if self._reading is None else await self._reading.run()
        except OSError as exc:  # there can be no more threads
            raise NoCredentials(f"expected to read the secrets of the backend, got {exc.strerror}") from exc

    def _read(self) -> Mapping[str, Secret]:
        found = {}
        for name, place in self._places.items():
            secret = secret_place.read(place, self._environ)
            if isinstance(secret, Problem):
                raise NoCredentials(str(secret))
            found[name] = secret
        return found


def places(options: HttpOptions) -> Mapping[str, SecretPlace]:
    """Return where the secrets are that `options` name, the bearer token among them."""
    token = options.bearer_token_file
    if token is None:
        return options.secrets
    return {**options.secrets, _BEARER: SecretPlace(setting="bearer_token_file", file=token, is_token=True)}


def without_credentials(options: HttpOptions) -> HttpOptions:
    """Return `options` with only the headers that are the same for every request and hold no secret."""
    secret = _secret_headers(options)
    return msgspec.structs.replace(
        options,
        url=str(URL(options.url).with_user(None)),
        proxy=options.proxy and str(URL(options.proxy).with_user(None)),
        headers={name: value for name, value in options.headers.items() if name not in secret},
    )


def _secret_headers(options: HttpOptions) -> Mapping[str, str]:
    """Return the headers that hold a secret, or may. A harmless one does if it has a place for one."""

    def is_secret(name: str, value: str) -> bool:
        return not is_harmless_header(name) or any(place in options.secrets for place in names(value))

    return {
        name: value
        for name, value in options.headers.items()
        if name.lower() not in _NEVER_OURS and is_secret(name, value)
    }


def authorization(user: str, password: str) -> str:
    """Return the value of ``Authorization`` for a user. Raises `NoCredentials` if HTTP cannot express the name."""
    try:
        return basic(user, password)
    except ValueError as exc:
        raise NoCredentials(str(exc)) from exc
