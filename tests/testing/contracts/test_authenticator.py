from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import signing

from tidegate.core.access.grant import UNRESTRICTED, Grant, Role
from tidegate.core.topics import PatternSet
from tidegate.outbound.auth import (
    JwtAuthenticator,
    JwtOptions,
    KnownToken,
    OpenAuthenticator,
    TokenAuthenticator,
    TokenFile,
    public_key_file,
)
from tidegate.ports import Authenticator
from tidegate.testing.contracts import AuthenticatorContract

READER = Grant(name="reader", roles=frozenset({Role.SUBSCRIBER}), allowed=PatternSet(["system.*"]))
WRITER = Grant(name="writer", roles=frozenset({Role.PUBLISHER}))


class TestOpenAuthenticator(AuthenticatorContract):
    is_open = True

    def tokens(self) -> Mapping[str, Grant]:
        return {"": UNRESTRICTED, "anything": UNRESTRICTED}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Authenticator]:
        yield OpenAuthenticator()


class TestTokenAuthenticator(AuthenticatorContract):
    @pytest.fixture(autouse=True)
    def _in_a_directory(self, tmp_path: Path) -> None:
        self.file = tmp_path / "token"
        self.file.write_text("w-456")

    def tokens(self) -> Mapping[str, Grant]:
        return {"r-123": READER, "w-456": WRITER}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Authenticator]:
        in_file = TokenFile(self.file, "auth.tokens[1].token_file")
        yield TokenAuthenticator([KnownToken("r-123", READER), KnownToken(in_file, WRITER)])


class TestJwtAuthenticator(AuthenticatorContract):
    @pytest.fixture(autouse=True)
    def _in_a_directory(self, tmp_path: Path) -> None:
        self.file = tmp_path / "key.pem"
        self.file.write_bytes(signing.rsa_key().as_pem(private=False))

    def tokens(self) -> Mapping[str, Grant]:
        reader = {"sub": "reader", "roles": ["subscriber"], "types": ["system.*"]}
        writer = {"sub": "writer", "roles": ["publisher"]}
        return {
            signing.signed(reader, signing.rsa_key()): READER,
            signing.signed(writer, signing.rsa_key()): WRITER,
        }

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Authenticator]:
        yield JwtAuthenticator(
            public_key_file(self.file, setting="auth.jwt.key_file"), JwtOptions(algorithms=["RS256"])
        )
