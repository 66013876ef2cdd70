"""Throw-away certificates for TLS on 127.0.0.1."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_Signer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


@dataclass(frozen=True)
class Certificates:
    """An authority and what it has signed, as PEM files; `other_ca` has signed none of it.

    `server` is for 127.0.0.1, and `named` for the name ``nas.test`` alone.
    """

    ca: Path
    other_ca: Path
    server: Path
    named: Path
    client: Path
    client_cert: Path
    client_key: Path
    locked_key: Path

    def server_side(self, *, ask_client: bool = False, named: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.named if named else self.server)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


def written_to(folder: Path) -> Certificates:
    """Make new certificates in `folder`."""

    def written(name: str, *parts: bytes) -> Path:
        path = folder / name
        path.write_bytes(b"".join(parts))
        return path

    authority = _certificate("An authority", issuer=None)
    server_key, server = _certificate("127.0.0.1", issuer=authority)
    named_key, named = _certificate("nas.test", issuer=authority, names=[x509.DNSName("nas.test")])
    client_key, client = _certificate("gateway", issuer=authority)
    return Certificates(
        ca=written("ca.pem", _pem(authority[1])),
        other_ca=written("other.pem", _pem(_certificate("Another authority", issuer=None)[1])),
        server=written("server.pem", _pem(server), _key_pem(server_key)),
        named=written("named.pem", _pem(named), _key_pem(named_key)),
        client=written("client.pem", _pem(client), _key_pem(client_key)),
        client_cert=written("client.crt", _pem(client)),
        client_key=written("client.key", _key_pem(client_key)),
        locked_key=written("locked.key", _key_pem(client_key, password=b"secret")),
    )


_HERE = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")),)


def expiring(until: dt.datetime) -> bytes:
    """Return a certificate in PEM that is valid until then."""
    return _pem(_certificate("expiring", issuer=None, until=until)[1])


def _certificate(
    name: str,
    *,
    issuer: _Signer | None,
    names: Sequence[x509.GeneralName] = _HERE,
    until: dt.datetime | None = None,
) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(until or now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, *, password: bytes | None = None) -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
