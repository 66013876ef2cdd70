"""What a TLS handshake with clients needs."""

import ssl
from pathlib import Path

from tidegate import files
from tidegate.errors import ConfigError, Problem


def tls_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """The context of a certificate and its key. Raises `ConfigError` for files that are not such."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        files.check(cert_file)
        files.check(key_file)
        # The empty password keeps OpenSSL from asking the terminal for one.
        context.load_cert_chain(cert_file, key_file, password="")
    except OSError as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        got = f"{cert_file} and {key_file} ({reason or 'not usable'})"
        expected = "a PEM file with a certificate chain, and with tls_key_file its unencrypted key"
        raise ConfigError([Problem("server.tls_cert_file", expected, got)]) from error
    return context
