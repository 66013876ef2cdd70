"""The TLS context of the server, and its certificate, which can be replaced while the server listens."""

import ssl
from pathlib import Path

from tidegate import files
from tidegate.errors import ConfigError, Problem


class Certificate:
    """What the server shows its clients. `context` is for the listener, and stays the same.

    Another context is used by the handshakes that begin from then on. Connections that are open are not affected.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self._used = context
        context.sni_callback = self._choose  # called in every handshake, also of a client that names no host

    def use(self, context: ssl.SSLContext) -> None:
        """Show the certificate of another `context`, as `tls_context` makes it."""
        self._used = context

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        del name
        if self._used is not context:
            connection.context = self._used


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
