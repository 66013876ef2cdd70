"""The TLS context of the server."""

import ssl
from pathlib import Path

from tidegate import files
from tidegate.errors import ConfigError, Problem


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
