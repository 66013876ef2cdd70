"""Checks before the start: what is wrong with a configuration and its files, and what to warn about.

``serve``, ``config check`` and ``doctor`` all use these checks, so their results agree. The checks only read files.
They write, bind and connect nothing: problems that show only at run time, such as an address in use, are found by
``doctor``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tidegate import files
from tidegate.config import BackendConfig, Config
from tidegate.core.masking import is_secret_name, mask_text
from tidegate.errors import ConfigError, Problem
from tidegate.outbound.auth import TokenFile, token_text
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.backends import opening as backends
from tidegate.outbound.store_sqlite import obstacle
from tidegate.parts import tls_context
from tidegate.plan import Plan, PlannedBackend

TOKEN_CHARACTERS = 16
"""The shortest token without a warning. A shorter one could be guessed."""


class Caution(msgspec.Struct, frozen=True):
    """A warning about a setting that works but is not secure. `setting` is its key, or the configuration file."""

    setting: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.found}: {self.remedy}"


def problems(plan: Plan) -> list[Problem]:
    """Return all problems for which ``serve`` would refuse to start with `plan`."""
    return startup_problems(plan) + state_problems(plan)


def startup_problems(plan: Plan) -> list[Problem]:
    """Return the problems with all files that are read at the start, whoever starts the gateway."""
    found = access_problems(plan)
    for backend in plan.backends:
        found += backend_problems(backend)
    return found


def access_problems(plan: Plan) -> list[Problem]:
    """Return the problems with the tokens, keys and certificates used for clients."""
    return [*_refused(lambda: authentication.made(plan.authentication)), *_refused(lambda: tls_context(plan.tls))]


def backend_problems(backend: PlannedBackend) -> list[Problem]:
    """Return the problems with the address, the certificates and the token of `backend`."""
    found = list(_refused(lambda: backends.made(backend.endpoint)))
    path = backend.endpoint.options.bearer_token_file
    if path is not None:
        file = TokenFile(path, f"backends.{backend.name}.bearer_token_file")
        found += _refused(lambda: token_text(file))
    return found


def state_problems(plan: Plan) -> list[Problem]:
    """Return the problems with the state directory, whoever uses it."""
    got = obstacle(plan.store) if plan.store is not None else None
    return [Problem("server.state_dir", "a directory that can be written, with files of its own", got)] if got else []


def cautions(config: Config, file: Path | None) -> list[Caution]:
    """Return the warnings for a `config` without problems. `file` is the file from which it was loaded."""
    return [*_short_tokens(config), *_exposed_files(config, file)]


def _refused(make: Callable[[], object]) -> Iterator[Problem]:
    try:
        make()
    except ConfigError as error:
        yield from error.problems


def _short_tokens(config: Config) -> Iterator[Caution]:
    for number, token in enumerate(config.auth.tokens):
        setting = f"auth.tokens[{number}].token"
        text = token.token
        if token.token_file is not None:
            setting += "_file"
            text = token_text(TokenFile(Path(token.token_file), setting))
        if text is not None and len(text) < TOKEN_CHARACTERS:
            found = f"a token of {len(text)} characters may be guessed"
            yield Caution(setting, found, f"use {TOKEN_CHARACTERS} or more, as `tidegate token create` does")


def _exposed_files(config: Config, file: Path | None) -> Iterator[Caution]:
    holders = dict(_secret_files(config))
    if file is not None and _holds_secrets(config):
        holders[str(file)] = str(file)
    for setting, path in holders.items():
        if files.is_exposed(Path(path)):
            yield Caution(setting, "other users of this machine may read or change the file", f"`chmod o= {path}`")


def _secret_files(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the settings that name a file with a secret, each with the path of the file."""
    named: dict[str, str | None] = {"server.tls_key_file": config.server.tls_key_file}
    for number, token in enumerate(config.auth.tokens):
        named[f"auth.tokens[{number}].token_file"] = token.token_file
    if config.auth.jwt is not None:
        named["auth.jwt.secret_file"] = config.auth.jwt.secret_file
    for name, backend in config.backends.items():
        named[f"backends.{name}.bearer_token_file"] = backend.bearer_token_file
        named[f"backends.{name}.client_key_file"] = backend.client_key_file
    yield from ((setting, path) for setting, path in named.items() if path is not None)


def _holds_secrets(config: Config) -> bool:
    """Return whether the configuration file itself, rather than a file that it names, contains a credential."""
    return any(token.token is not None for token in config.auth.tokens) or any(
        map(_carries_credentials, config.backends.values())
    )


def _carries_credentials(backend: BackendConfig) -> bool:
    return mask_text(backend.url) != backend.url or any(map(is_secret_name, backend.headers))
