import os
from pathlib import Path

import pytest
from certificates import Certificates, written_to
from yarl import URL

from tidegate import __version__
from tidegate.errors import ConfigError
from tidegate.outbound.http_client.options import (
    HttpOptions,
    address,
    fixed_headers,
    peer,
    tls_context,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return written_to(tmp_path_factory.mktemp("certificates"))


class TestAddress:
    def test_leaves_out_credentials_and_fragment(self) -> None:
        assert address(HttpOptions(url="http://user:secret@h:81/rpc?a=1#x")) == URL("http://h:81/rpc?a=1")

    @pytest.mark.parametrize("text", ["", "h/rpc", "ftp://user:secret@h/", "http://", "http:///x", "http://[x", "//h"])
    def test_is_http_with_a_host(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"url: expected an address that begins with http://") as caught:
            address(HttpOptions(url=text))
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "name"),
        [("http://h/x?token=t", "h:80"), ("https://h", "h:443"), ("http://[::1]:8080/", "[::1]:8080")],
    )
    def test_is_named_by_host_and_port(self, url: str, name: str) -> None:
        assert peer(URL(url)) == name


class TestHeaders:
    def test_say_who_asks_for_what(self) -> None:
        assert dict(fixed_headers(HttpOptions(url="http://h/"))) == {
            "User-Agent": f"tidegate/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Host": "h",
        }

    def test_of_the_configuration_win_but_never_ask_for_compression(self) -> None:
        own = {"accept": "text/x", "accept-encoding": "gzip", "X-Key": "k", "authorization": "Custom 1"}
        headers = fixed_headers(HttpOptions(url="http://user:p%40ss@h/", headers=own))
        assert headers.getall("Accept") == ["text/x"]
        assert headers.getall("Accept-Encoding") == ["identity"]
        assert headers.getall("Authorization") == ["Custom 1"]
        assert headers["X-Key"] == "k"

    @pytest.mark.parametrize("url", ["http://a%3Ab:s3cr3t@h/", "http://xn--a/"])
    def test_of_an_address_that_cannot_be_asked_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigError, match="url: expected an address") as refused:
            address(HttpOptions(url=url))
        assert "s3cr3t" not in str(refused.value)

    def test_carry_the_credentials_of_the_address(self) -> None:
        assert fixed_headers(HttpOptions(url="http://user:p%40ss@h/"))["Authorization"] == "Basic dXNlcjpwQHNz"


class TestTlsContext:
    @pytest.mark.timeout(10)
    def test_does_not_wait_for_a_pipe(self, certificates: Certificates, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        for options in (
            HttpOptions(url="https://h/", ca_file=pipe),
            HttpOptions(url="https://h/", client_cert_file=pipe),
            HttpOptions(url="https://h/", client_cert_file=certificates.client_cert, client_key_file=pipe),
        ):
            with pytest.raises(ConfigError, match="a named pipe"):
                tls_context(options)

    def test_takes_certificate_and_key_apart_or_together(self, certificates: Certificates) -> None:
        tls_context(HttpOptions(url="https://h/", client_cert_file=certificates.client))
        tls_context(
            HttpOptions(
                url="https://h/", client_cert_file=certificates.client_cert, client_key_file=certificates.client_key
            )
        )

    def test_names_the_setting_at_fault(self, certificates: Certificates, tmp_path: Path) -> None:
        missing = tmp_path / "missing.pem"
        no_pem = tmp_path / "no.pem"
        no_pem.write_text("no certificate")
        for options, problem in [
            (HttpOptions(url="https://h/", ca_file=missing), "ca_file: .*missing.pem .No such file"),
            (HttpOptions(url="https://h/", ca_file=no_pem), "ca_file: .*no.pem"),
            (HttpOptions(url="https://h/", client_cert_file=missing), "client_cert_file: .*missing.pem .No such file"),
            (HttpOptions(url="https://h/", client_cert_file=certificates.client_cert), "client_cert_file: "),
            (
                HttpOptions(
                    url="https://h/", client_cert_file=certificates.client_cert, client_key_file=certificates.locked_key
                ),
                "client_cert_file: expected .* unencrypted key",
            ),
        ]:
            with pytest.raises(ConfigError, match=problem):
                tls_context(options)
