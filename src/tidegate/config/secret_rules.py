"""Rules for secrets: which names may stand in braces where a wrong one would do harm."""

from collections.abc import Collection, Iterator

from tidegate.config.backends import BackendConfig, SourceConfig
from tidegate.config.reader import KeyPath, Mistake
from tidegate.core.masking import userinfo
from tidegate.core.templates import names


def of_secrets(backend: BackendConfig) -> Iterator[Mistake]:
    """Yield what is wrong with `secrets`, and with the places for them in headers and in users of `url` and `proxy`.

    A name in braces that is no secret would be sent as it is, to be refused with a message that tells nobody why.
    """
    for name in sorted(backend.secret_names):
        if {f"{name}_file", f"{name}_env"} <= backend.secrets.keys():
            yield Mistake(("secrets", f"{name}_env"), f"no such key beside {name}_file", "both")
    if backend.secrets:
        session = backend.session
        for path, url in {
            ("url",): backend.address,
            ("proxy",): backend.proxy,
            ("session", "url"): session.url,
        }.items():
            yield from _unknown(path, userinfo(url or ""), backend.secret_names)
        for name, value in session.headers.items():
            yield from _unknown(("session", "headers", name), value, backend.secret_names)
    if backend.filled_names:
        for name, value in backend.headers.items():
            yield from _unknown(("headers", name), value, backend.filled_names)


def of_places(source: SourceConfig, backend: BackendConfig) -> Iterator[Mistake]:
    """Yield what is wrong with the places for secrets in the headers of a source of `backend`."""
    if backend.filled_names:
        for name, value in source.headers.items():
            yield from _unknown(("headers", name), value, backend.filled_names)


def _unknown(path: KeyPath, text: str, known: Collection[str]) -> Iterator[Mistake]:
    for name in names(text):
        if name not in known:
            yield Mistake(path, f"only names that [secrets] has ({', '.join(sorted(known))}) in braces", f"{{{name}}}")
            return
