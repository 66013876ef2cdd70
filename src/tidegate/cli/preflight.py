"""Checks before the start: what is wrong with a configuration and its files, and what to warn about.

``serve``, ``config check`` and ``doctor`` all use these checks, so their results agree. The checks only read files.
They write, bind and connect nothing: problems that show only at run time, such as an address in use, are found by
``doctor``.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from tidegate import files
from tidegate.checks import startup_problems
from tidegate.config import BackendConfig, Config
from tidegate.config.reader import dotted
from tidegate.core.masking import is_secret_name, mask_text, userinfo
from tidegate.core.templates import filled, masked, names
from tidegate.errors import Problem
from tidegate.outbound.auth import TokenFile, token_text
from tidegate.outbound.store_sqlite import obstacle
from tidegate.plan import Plan
from tidegate.secret import MASK

TOKEN_CHARACTERS = 16
"""The shortest token without a warning. A shorter one could be guessed."""


LONG_OPEN_S = 60.0
"""The longest open period of a breaker without a warning, unless the backend's sources are polled that rarely."""

LONG_OPEN_SHARE = 0.1
"""The share of a backend's shortest interval up to which an open period is not long: its data is that old anyway."""


class Caution(msgspec.Struct, frozen=True):
    """A warning about a setting that works but has a price. `setting` is its key, or the configuration file."""

    setting: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.found}: {self.remedy}"


def problems(plan: Plan) -> list[Problem]:
    """Return all problems for which ``serve`` would refuse to start with `plan`."""
    return startup_problems(plan) + state_problems(plan)


def state_problems(plan: Plan) -> list[Problem]:
    """Return the problems with the state directory, whoever uses it."""
    got = obstacle(plan.store) if plan.store is not None else None
    return [Problem("server.state_dir", "a directory that can be written, with files of its own", got)] if got else []


def cautions(config: Config, plan: Plan, file: Path | None) -> list[Caution]:
    """Return all warnings for a `config` without problems, whose plan is `plan`, and which was loaded from `file`."""
    return exposures(config, file) + prices(config, plan)


def exposures(config: Config, file: Path | None) -> list[Caution]:
    """Return the warnings about tokens that can be guessed, and about secrets that others can read."""
    return [*_short_tokens(config), *_exposed_files(config, file)]


def prices(config: Config, plan: Plan) -> list[Caution]:
    """Return the warnings about settings because of which data may be stale for long, or lost."""
    return [
        *_long_open_periods(config, plan),
        *_slow_batches(plan),
        *_forgotten_values(config),
        *_literal_braces(config),
    ]


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


def _long_open_periods(config: Config, plan: Plan) -> Iterator[Caution]:
    for backend in plan.backends:
        polling, rules = backend.polling, config.backends[backend.name].breaker
        longest_s = polling.breaker.open_max_s
        shortest_s = min((source.spec.interval_s for source in polling.sources), default=0.0)
        if longest_s > max(LONG_OPEN_S, shortest_s * LONG_OPEN_SHARE):
            key = "open_s" if rules.open_max_s is None else "open_max_s"
            timeout_s = max((source.spec.timeout_s for source in polling.sources), default=polling.timeout_s)
            found = f"after an outage, data may stay stale for up to {longest_s + timeout_s:g} s after the backend"
            remedy = f"set at most {LONG_OPEN_S:g} s; a backend that is down gets one call in each open period"
            yield Caution(f"backends.{backend.name}.breaker.{key}", f"{found} is back", remedy)


def _slow_batches(plan: Plan) -> Iterator[Caution]:
    for backend in plan.backends:
        limits = {source.spec.type: source.spec.timeout_s for source in backend.polling.sources}
        if backend.polling.batch and len(set(limits.values())) > 1:
            slowest = max(limits, key=limits.__getitem__)
            found = f"whatever is asked in one batch with it may take {limits[slowest]:g} s too, whatever its own limit"
            remedy = f"turn off backends.{backend.name}.batch, or give {slowest} a backend of its own"
            yield Caution(f'sources."{slowest}".timeout_s', found, remedy)


def _forgotten_values(config: Config) -> Iterator[Caution]:
    """Yield a warning if listed tokens may publish and nothing is kept on disk.

    Nobody knows whether signed tokens allow that. With mode "none" everybody may publish, but hardly anybody does.
    """
    publishers = [number for number, token in enumerate(config.auth.tokens) if "publisher" in token.roles]
    if publishers and not config.server.state_dir:
        found = f"auth.tokens[{publishers[0]}] may publish, but what is published with `retain` is gone after a restart"
        yield Caution("server.state_dir", found, "set it to a directory that outlives the gateway")


def _literal_braces(config: Config) -> Iterator[Caution]:
    """Yield a warning for each text with a name in braces that is no secret of its backend, though that has some."""
    for name, backend in config.backends.items():
        texts: dict[str, object] = {f"backends.{name}.url": backend.address}
        for key in ("url", "method", "path", "params", "form", "body"):
            texts[f"backends.{name}.session.{key}"] = getattr(backend.session, key)
        for event_type, source in config.sources.items():
            if source.backend == name:
                of_source = {key: getattr(source, key) for key in ("method", "path", "params", "body")}
                texts |= {dotted(("sources", event_type, key)): value for key, value in of_source.items()}
        for setting, text in texts.items():
            unknown = next((each for each in names(text) if each not in backend.filled_names), None)
            if backend.filled_names and unknown is not None:
                remedy = f"name it in [backends.{name}.secrets], if it stands for a secret"
                yield Caution(setting, f"{{{unknown}}} is sent as it is", remedy)


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
        for key, place in backend.secrets.items():
            if key.endswith("_file"):
                named[f"backends.{name}.secrets.{key}"] = place
    yield from ((setting, path) for setting, path in named.items() if path is not None)


def _holds_secrets(config: Config) -> bool:
    """Return whether the configuration file itself, rather than a file that it names, contains a credential."""
    return any(token.token is not None for token in config.auth.tokens) or any(
        map(_carries_credentials, config.backends.values())
    )


def _carries_credentials(backend: BackendConfig) -> bool:
    known = backend.secret_names
    texts = [value for name, value in backend.headers.items() if is_secret_name(name)]
    return any(_has_password(url, known) for url in (backend.address, backend.proxy or "")) or any(
        MASK in masked(text, known) for text in filter(None, texts)
    )


def _has_password(url: str, known: Collection[str]) -> bool:
    """Return whether a credential stands in `url`, rather than the name of a secret, one of `known`."""
    user, colon, password = userinfo(url).partition(":")
    rest = filled(url.replace(f"{user}{colon}{password}@", ""), lambda name: "" if name in known else None)
    text = password if colon else user
    return mask_text(rest) != rest or (bool(text) and MASK in masked(text, known))
