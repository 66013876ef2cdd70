"""The ``token create`` command: makes a token to list in the configuration, or a signed one (JWT)."""

import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidegate.cli.configuring import FileExists
from tidegate.config.reader import quoted
from tidegate.core.topics import PatternSet
from tidegate.errors import ConfigError, Problem, TopicError
from tidegate.outbound.auth import Signer, private_key, shared_secret

TOKEN_BYTES = 32
PREFIX = "tg_"
"""Makes a leaked token recognizable, and keeps it from starting with a dash, which looks like an option."""

EXPIRES_S = 3600


class Bearer(msgspec.Struct, frozen=True, kw_only=True):
    """What a token allows. `types` are patterns, None for everything."""

    roles: Sequence[str]
    types: str | None = None

    def patterns(self) -> list[str] | None:
        """Return the patterns, sorted. Raises `ConfigError`."""
        if self.types is None:
            return None
        try:
            return PatternSet.parse(name.strip() for name in self.types.split(",") if name.strip()).sorted()
        except TopicError as error:
            raise ConfigError(
                [Problem("--types", "patterns separated by commas", f"{self.types!r} ({error})")]
            ) from error


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """How a token is signed, and its claims besides roles and types. A claim that is None is left out."""

    key_file: Path | None = None
    secret_file: Path | None = None
    subject: str | None = None
    expires_s: int | None = None
    audience: str | None = None
    issuer: str | None = None

    def signer(self) -> Signer | None:
        """Return the signer, or None for an unsigned token. Raises `ConfigError`."""
        if self.key_file is not None and self.secret_file is not None:
            raise ConfigError([Problem("--secret-file", "no --key-file beside it", "both")])
        if self.key_file is not None:
            return private_key(self.key_file, setting="--key-file")
        if self.secret_file is not None:
            return shared_secret(self.secret_file, setting="--secret-file")
        claims = {"sub": self.subject, "expires-s": self.expires_s, "audience": self.audience, "issuer": self.issuer}
        expected = "--key-file or --secret-file beside it: only signed tokens have claims"
        problems = [Problem(f"--{name}", expected, "neither") for name, value in claims.items() if value is not None]
        if problems:
            raise ConfigError(problems)
        return None


def create(bearer: Bearer, signing: Signing, *, file: Path | None) -> int:
    """Make a token and print it: a signed one as it is, another one as a table for ``tidegate.toml``.

    With `file`, the token is written there instead, readable only by its owner. Raises `ConfigError`, and `FileExists`
    if the file exists.
    """
    patterns = bearer.patterns()
    signer = signing.signer()
    if signer is None:
        token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        setting = f"token = {quoted(token)}" if file is None else f"token_file = {_path(file)}"
        shown = _table(setting, bearer.roles, patterns)
    else:
        token = signer.sign(_claims(bearer.roles, patterns, signing))
        shown = "" if file else f"{token}\n"
    if file is not None:
        _write_secret(file, token)
        sys.stderr.write(f"{file} written\n")
    sys.stdout.write(shown)
    return 0


def _claims(roles: Sequence[str], patterns: list[str] | None, signing: Signing) -> dict[str, object]:
    now = int(time.time())
    claims = {
        "sub": signing.subject,
        "iat": now,
        "exp": now + (signing.expires_s or EXPIRES_S),
        "aud": signing.audience,
        "iss": signing.issuer,
        "roles": list(roles),
        "types": patterns,
    }
    return {name: value for name, value in claims.items() if value is not None}


def _table(setting: str, roles: Sequence[str], patterns: list[str] | None) -> str:
    lines = ['[[auth.tokens]]                    # goes with mode = "token" under [auth]', setting]
    lines.append(f"roles = {_listed(roles)}")
    if patterns is not None:
        lines.append(f"types = {_listed(patterns)}")
    return "\n".join(lines) + "\n"


def _path(file: Path) -> str:
    """Return an absolute path: a relative one would be looked up beside the configuration, wherever that will be."""
    return quoted(str(file.absolute()))


def _listed(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, texts))}]"


def _write_secret(path: Path, text: str) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        raise FileExists(f"{path} already exists, and is left unchanged") from error
    path.write_text(f"{text}\n", encoding="utf-8")
