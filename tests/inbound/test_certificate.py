"""The certificate of the server: it is replaced while the server listens, and read again when its files change."""

import asyncio
import datetime as dt
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import certificates
import pytest
from cryptography import x509
from structlog.testing import capture_logs

from tidegate.errors import ConfigError
from tidegate.inbound.server import Certificate, LoadedCertificate, TlsFiles, serve
from tidegate.inbound.server.expiry import expires_at
from tidegate.inbound.server.tls import RENEW_S
from tidegate.testing import ManualClock


@pytest.fixture
def made(tmp_path: Path) -> certificates.Certificates:
    return certificates.written_to(tmp_path)


def files(pem: Path) -> TlsFiles:
    return TlsFiles(tls_cert_file=pem, tls_key_file=pem)


async def app(*_: object) -> None:
    raise AssertionError("nothing is asked")


@asynccontextmanager
async def serving(certificate: Certificate) -> AsyncIterator[int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    async with serve(app, lambda *_: None, sock=listener, ssl=certificate.context, handshake_s=5.0):
        yield listener.getsockname()[1]


async def shown(port: int, *, name: str | None = None) -> bytes:
    """The certificate that the server shows to a client, which asks for `name`, or for none (by an IP address)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(found, bytes)
    return found


def of(pem: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.read_bytes())


def is_of(shown_: bytes, pem: Path) -> bool:
    return x509.load_der_x509_certificate(shown_) == of(pem)


@pytest.mark.parametrize("name", [None, "gateway.example"])
async def test_another_certificate_is_shown_to_those_who_connect_from_then_on(
    made: certificates.Certificates, name: str | None
) -> None:
    certificate = Certificate(LoadedCertificate.read(files(made.server)))
    async with serving(certificate) as port:
        assert is_of(await shown(port, name=name), made.server)
        certificate.use(LoadedCertificate.read(files(made.named)))
        assert is_of(await shown(port, name=name), made.named)
        certificate.use(LoadedCertificate.read(files(made.server)))
        assert is_of(await shown(port, name=name), made.server)


async def test_an_open_connection_goes_on_after_the_certificate_was_replaced(made: certificates.Certificates) -> None:
    certificate = Certificate(LoadedCertificate.read(files(made.server)))
    context = ssl.create_default_context(cafile=made.ca)
    async with serving(certificate) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        certificate.use(LoadedCertificate.read(files(made.named)))
        writer.write(b"no request\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()


async def renewed(clock: ManualClock, certificate: Certificate, *, rounds: int = 1) -> None:
    task = asyncio.create_task(certificate.renew(clock))
    for _ in range(rounds):
        await asyncio.sleep(0)
        clock.advance(RENEW_S)
        await asyncio.sleep(0.05)
    task.cancel()


async def test_files_that_have_changed_are_read_again(made: certificates.Certificates, tmp_path: Path) -> None:
    used = tmp_path / "used.pem"
    shutil.copy(made.server, used)
    certificate = Certificate(LoadedCertificate.read(files(used)))
    first, clock = certificate.loaded, ManualClock()
    await renewed(clock, certificate)
    assert certificate.loaded is first
    shutil.copy(made.named, used)
    await renewed(clock, certificate)
    assert certificate.loaded is not first
    async with serving(certificate) as port:
        assert is_of(await shown(port), made.named)


async def test_a_file_that_cannot_be_used_is_named_once_and_the_certificate_stays(
    made: certificates.Certificates, tmp_path: Path
) -> None:
    used = tmp_path / "used.pem"
    shutil.copy(made.server, used)
    certificate = Certificate(LoadedCertificate.read(files(used)))
    first = certificate.loaded
    used.write_text("half of it")
    with capture_logs() as lines:
        await renewed(ManualClock(), certificate, rounds=3)
    assert certificate.loaded is first
    assert [line["event"] for line in lines] == ["certificate not renewed: the earlier one stays in use"]


async def test_a_key_that_does_not_fit_is_refused(made: certificates.Certificates) -> None:
    with pytest.raises(ConfigError, match=r"server\.tls_cert_file"):
        LoadedCertificate.read(TlsFiles(tls_cert_file=made.server, tls_key_file=made.named))


def test_when_a_certificate_expires(made: certificates.Certificates) -> None:
    loaded = LoadedCertificate.read(files(made.server))
    assert loaded.expires_at == of(made.server).not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    "until", [dt.datetime(2049, 12, 31, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(2050, 1, 1, tzinfo=dt.UTC)]
)
def test_both_forms_of_a_time_are_read(until: dt.datetime) -> None:
    """RFC 5280: until 2049 a year has two digits, from 2050 on four."""
    pem = certificates.expiring(until)
    assert expires_at(pem.decode()) == until.timestamp()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "no PEM"])
def test_what_is_no_certificate_has_no_end(text: str) -> None:
    assert expires_at(text) is None
