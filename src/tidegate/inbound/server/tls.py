"""The certificate of the server, which is read again when its files have changed."""

import asyncio
import ssl
from pathlib import Path
from typing import Self

import msgspec
import structlog

from tidegate import files
from tidegate.errors import ConfigError, Problem
from tidegate.inbound.server.expiry import expires_at
from tidegate.ports import Clock

RENEW_S = 60.0
"""How often the files are looked at."""

Marks = tuple[files.Mark, files.Mark]
"""Those of the file with the certificate and of the one with its key."""

log = structlog.get_logger("tidegate.tls")


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate chain in PEM, and its private key."""

    tls_cert_file: Path
    tls_key_file: Path


class LoadedCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of `files`. `marks` tell whether they have changed since. `expires_at` is in Unix seconds."""

    files: TlsFiles
    marks: Marks
    context: ssl.SSLContext
    expires_at: float | None

    @classmethod
    def read(cls, named: TlsFiles) -> Self:
        """Read the files. Blocks. Raises `ConfigError` if they cannot be used."""
        marks = _marks(named)  # first: a change while they are read must be noticed later
        context = tls_context(named.tls_cert_file, named.tls_key_file)
        return cls(files=named, marks=marks, context=context, expires_at=_expires_at(named.tls_cert_file))


class Certificate:
    """What the server shows its clients. `context` is for the listener, and stays the same.

    Another certificate is used by the handshakes that begin from then on. Connections that are open are not affected.
    """

    def __init__(self, loaded: LoadedCertificate) -> None:
        self.context = loaded.context
        self.loaded = loaded
        self.context.sni_callback = self._choose  # called in every handshake, also of a client that names no host

    @property
    def expires_at(self) -> float | None:
        """Until when it is valid, in Unix seconds; None if unknown."""
        return self.loaded.expires_at

    def use(self, loaded: LoadedCertificate) -> None:
        """Show another certificate."""
        self.loaded = loaded

    async def renew(self, clock: Clock) -> None:
        """Once a minute, read the files again if they have changed, until cancelled.

        A certificate that cannot be used is logged once, and the one before stays in use.
        """
        failed: Marks | None = None
        while True:
            await clock.sleep_until(clock.now().mono + RENEW_S)
            held = self.loaded
            marks = await asyncio.to_thread(_marks, held.files)
            if marks in (held.marks, failed):
                continue
            try:
                loaded = await asyncio.to_thread(LoadedCertificate.read, held.files)
            except ConfigError as error:
                failed = marks
                log.warning("certificate not renewed: the earlier one stays in use", problem=str(error))
                continue
            if self.loaded is held:  # otherwise a reload was faster
                self.use(loaded)
                log.info("certificate renewed", expires_at=loaded.expires_at)

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        del name
        if self.loaded.context is not context:
            connection.context = self.loaded.context


def tls_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Make the context from a certificate chain and its key. Raises `ConfigError` if the files cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        files.check(cert_file)
        files.check(key_file)
        # Without a password, OpenSSL would ask for one on the terminal if the key is encrypted.
        context.load_cert_chain(cert_file, key_file, password="")
    except OSError as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        got = f"{cert_file} and {key_file} ({reason or 'not usable'})"
        expected = "a PEM file with a certificate chain, and with tls_key_file its unencrypted key"
        raise ConfigError([Problem("server.tls_cert_file", expected, got)]) from error
    return context


def _marks(named: TlsFiles) -> Marks:
    return files.mark(named.tls_cert_file), files.mark(named.tls_key_file)


def _expires_at(cert_file: Path) -> float | None:
    try:
        return expires_at(files.read(cert_file, limit=files.PEM_BYTES).decode("ascii", "replace"))
    except OSError:  # it has just been replaced
        return None
