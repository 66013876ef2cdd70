import pytest
from fanout import knowing

from tidegate.core.access.grant import UNRESTRICTED, Grant, Role
from tidegate.errors import AccessRefused, MessageError, MessageErrorCode, RefusalReason
from tidegate.outbound.auth import OpenAuthenticator
from tidegate.runtime.access import Gate, Request

READER = Grant(name="reader", roles=frozenset({Role.SUBSCRIBER}))
WRITER = Grant(name="writer", roles=frozenset({Role.PUBLISHER}))


def request(*, peer: str = "127.0.0.1", scheme: str = "http", **headers: str) -> Request:
    return Request(peer=peer, scheme=scheme, headers={k.replace("_", "-"): v for k, v in headers.items()})


def gate(
    *, bound_host: str = "192.0.2.7", hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (), proxies: str = ""
) -> Gate:
    return Gate(
        authenticator=knowing({"r": READER, "w": WRITER}),
        bound_host=bound_host,
        hosts=hosts,
        origins=origins,
        trusted_proxies=proxies.split(),
    )


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "localhost:12080",
            "LocalHost:1",
            "127.0.0.1:12080",
            "[::1]",
            "[::1]:12080",
            "192.0.2.7:12080",
            "gw.example",
            "GW.example:80",
            "gw.example:9999",
            "api.example:8443",
        ],
    )
    def test_lets_in_what_is_ours(self, host: str) -> None:
        gate(hosts=("gw.example", "API.example:8443")).check_host(request(host=host))

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.example:12080",
            "api.example",
            "api.example:80",
            "127.0.0.2",
            "::1",
            "localhost, evil.example",
            "evil@localhost",
            "localhost/x",
            "localhost?x",
            "localhost#x",
            "localhost:12080:1",
            "localhost:x",
            "[::1",
            "[::1]x",
            "localhost ",
        ],
    )
    def test_refuses_any_other(self, host: str) -> None:
        with pytest.raises(AccessRefused, match=r"server\.allowed_hosts") as caught:
            gate(hosts=("gw.example", "api.example:8443")).check_host(request(host=host))
        assert caught.value.status == 421

    def test_refuses_a_request_without_one(self) -> None:
        with pytest.raises(AccessRefused):
            gate().check_host(request())

    def test_an_ipv6_address_that_is_bound_needs_no_brackets_in_the_configuration(self) -> None:
        gate(bound_host="2001:DB8::7").check_host(request(host="[2001:db8::7]:12080"))
        gate(hosts=("2001:DB8::8",)).check_host(request(host="[2001:db8::8]:12080"))

    @pytest.mark.parametrize("host", ["LOCALHOST.", "gw.example.", "gw.example.:80", "gw.example:", "[::ffff:7f00:1]"])
    def test_a_host_of_ours_written_in_another_way_is_ours(self, host: str) -> None:
        gate(hosts=("gw.example",)).check_host(request(host=host))
        gate(hosts=("GW.example.",)).check_host(request(host=host))

    @pytest.mark.parametrize(
        ("listed", "scheme", "host", "is_ours"),
        [
            ("gw.example:443", "https", "gw.example", True),
            ("gw.example:443", "https", "gw.example:443", True),
            ("gw.example:443", "http", "gw.example", False),
            ("gw.example:80", "http", "gw.example.", True),
            ("gw.example:80", "http", "gw.example:8080", False),
        ],
    )
    def test_a_listed_port_is_the_one_that_was_asked_for(
        self, listed: str, scheme: str, host: str, is_ours: bool
    ) -> None:
        asked = request(host=host, scheme=scheme)
        if is_ours:
            gate(hosts=(listed,)).check_host(asked)
        else:
            with pytest.raises(AccessRefused):
                gate(hosts=(listed,)).check_host(asked)

    @pytest.mark.parametrize(
        ("local", "host"),
        [
            ("198.51.100.4", "198.51.100.4"),
            ("198.51.100.4", "198.51.100.4:12080"),
            ("::ffff:198.51.100.4", "198.51.100.4:12080"),
            ("198.51.100.4", "[::ffff:c633:6404]"),
            ("2001:db8::4", "[2001:DB8:0::4]:12080"),
            ("fe80::4%eth0", "[fe80::4]"),
            ("fe80::4%eth0", "[fe80::4%25eth0]:12080"),
            ("fe80::4", "[fe80::4%eth0]"),
        ],
    )
    def test_the_address_at_which_a_connection_arrived_is_ours(self, local: str, host: str) -> None:
        def at(address: str) -> Request:
            return Request(peer="192.0.2.1", scheme="http", headers={"host": host}, local_address=lambda: address)

        gate().check_host(at(local))
        for another in ("198.51.100.5", "2001:db8::5", ""):
            with pytest.raises(AccessRefused):
                gate().check_host(at(another))


class TestOrigin:
    @pytest.mark.parametrize(
        "asked",
        [
            request(host="gw.example"),
            request(host="gw.example", origin=""),
            request(host="gw.example", origin="http://gw.example"),
            request(host="gw.example:80", origin="http://gw.example"),
            request(host="gw.example:12080", origin="http://GW.example:12080"),
            request(host="gw.example", origin="https://gw.example", scheme="https"),
            request(host="gw.example:443", origin="https://gw.example", scheme="https"),
            request(host="gw.example", origin="https://app.example"),
        ],
    )
    def test_lets_in_the_same_host_and_what_is_listed(self, asked: Request) -> None:
        gate(origins=("https://App.example",)).check_origin(asked)

    @pytest.mark.parametrize(
        "asked",
        [
            request(host="gw.example", origin="http://evil.example"),
            request(host="gw.example:12080", origin="http://gw.example"),
            request(host="gw.example", origin="https://gw.example"),
            request(host="gw.example", origin="http://app.example"),
            request(host="gw.example", origin="https://app.example.evil.example"),
            request(host="gw.example", origin="null"),
            request(host="gw.example", origin="https://gw.example", x_forwarded_proto="https", peer="192.0.2.1"),
        ],
    )
    def test_refuses_pages_of_others(self, asked: Request) -> None:
        with pytest.raises(AccessRefused, match=r"server\.allowed_origins") as caught:
            gate(origins=("https://app.example",)).check_origin(asked)
        assert caught.value.status == 403

    @pytest.mark.parametrize("listed", ["https://app.example:443", "HTTPS://APP.example.", "https://app.example:"])
    @pytest.mark.parametrize("sent", ["https://app.example", "https://app.example.", "https://App.example:443"])
    def test_a_listed_one_may_be_written_in_another_way(self, listed: str, sent: str) -> None:
        gate(origins=(listed,)).check_origin(request(host="gw.example", origin=sent))

    def test_pages_of_no_host_must_be_named(self) -> None:
        gate(origins=("null",)).check_origin(request(host="gw.example", origin="null"))

    @pytest.mark.parametrize("forwarded", ["https", "HTTPS", "wss", "https, http"])
    def test_a_trusted_proxy_says_which_scheme_was_asked_for(self, forwarded: str) -> None:
        asked = request(host="gw.example", origin="https://gw.example", x_forwarded_proto=forwarded, peer="10.1.2.3")
        gate(proxies="10.0.0.0/8").check_origin(asked)


class TestToken:
    @pytest.mark.parametrize(
        ("authorization", "query"),
        [("Bearer r", None), ("bearer  r ", None), ("Bearer r", "w"), ("", "r"), ("Basic eDp5", "r")],
    )
    def test_a_header_wins_over_the_query(self, authorization: str, query: str | None) -> None:
        assert gate().authenticate(request(authorization=authorization), query, Role.SUBSCRIBER) is READER

    @pytest.mark.parametrize(
        ("authorization", "query"),
        [("", None), ("", ""), ("Bearer x", "r"), ("Bearer", "r"), ("r", None), ("", "\udcff"), ("Bearer \udcff", "r")],
    )
    def test_without_a_valid_one_nobody_comes_in(self, authorization: str, query: str | None) -> None:
        with pytest.raises(AccessRefused) as caught:
            gate().authenticate(request(authorization=authorization), query, Role.SUBSCRIBER)
        assert caught.value.status == 401

    def test_a_valid_one_without_the_role_is_told_which(self) -> None:
        with pytest.raises(AccessRefused, match="'publisher'") as caught:
            gate().authenticate(request(), "r", Role.PUBLISHER)
        assert caught.value.status == 403

    def test_while_nobody_can_tell_it_helps_to_come_back(self) -> None:
        class NoKeysYet:
            def verify(self, token: str) -> Grant:
                raise MessageError(MessageErrorCode.UNAUTHENTICATED, "not yet", retryable=True)

        with pytest.raises(AccessRefused) as caught:
            Gate(authenticator=NoKeysYet(), bound_host="x").authenticate(request(), "r", Role.SUBSCRIBER)
        assert caught.value.status == 503
        assert caught.value.retry_after_s
        assert caught.value.reason is RefusalReason.KEYS_UNAVAILABLE

    def test_without_authentication_none_is_needed(self) -> None:
        door = Gate(authenticator=OpenAuthenticator(), bound_host="127.0.0.1")
        assert door.authenticate(request(), None, Role.ADMIN) is UNRESTRICTED


class TestReasons:
    @pytest.mark.parametrize(
        ("authorization", "query", "reason"),
        [
            ("", None, RefusalReason.NO_TOKEN),
            ("Bearer", "r", RefusalReason.NO_TOKEN),
            ("Bearer x", "r", RefusalReason.BAD_TOKEN),
            ("", "\udcff", RefusalReason.BAD_TOKEN),
            ("", "w", RefusalReason.ROLE),
        ],
    )
    def test_of_a_token(self, authorization: str, query: str | None, reason: RefusalReason) -> None:
        with pytest.raises(AccessRefused) as caught:
            gate().authenticate(request(authorization=authorization), query, Role.SUBSCRIBER)
        assert caught.value.reason is reason

    def test_of_a_host_and_of_an_origin(self) -> None:
        with pytest.raises(AccessRefused) as caught:
            gate().check_host(request(host="evil.example"))
        assert caught.value.reason is RefusalReason.HOST
        with pytest.raises(AccessRefused) as caught:
            gate().check_origin(request(host="localhost", origin="http://evil.example"))
        assert caught.value.reason is RefusalReason.ORIGIN


class TestAddress:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "203.0.113.9, , 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
            ("10.0.0.1", "203.0.113.9:4711, 10.0.0.2:80", "203.0.113.9"),
            ("10.0.0.1", "[2001:db8::7]:4711, [::1]:80", "2001:db8::7"),
            ("10.0.0.1", "fe80::7%eth0", "fe80::7"),
            ("10.0.0.1", "[fe80::7%eth0]:4711", "fe80::7"),
            ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1, unknown", "unknown"),
            ("10.0.0.1", "198.51.100.1, " + "x" * 9000, "unknown"),
            ("10.0.0.1", '<b>"\x1b[31m', "unknown"),
            ("::1", "203.0.113.9", "203.0.113.9"),
            ("", "203.0.113.9", ""),
            ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ],
    )
    def test_is_the_last_one_that_no_trusted_proxy_vouches_for(self, peer: str, forwarded: str, address: str) -> None:
        asked = request(peer=peer, authorization="Bearer r", x_forwarded_for=forwarded)
        assert gate(proxies="10.0.0.0/8 ::1").address(asked) == address
