"""The order of the questions: each request here fails as many as it can, and is mended in one point after the other."""

import pytest
import structlog
from fanout import House, knowing

from tidegate.core.access.grant import UNRESTRICTED, Grant, Role
from tidegate.core.events import NOT_OURS, Position
from tidegate.core.measurements import BusConnected, RequestRefused
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, RefusalReason
from tidegate.runtime.access import Gate, Request
from tidegate.runtime.admission import Admission, Admissions, Transport
from tidegate.secret import Secret

GRANTS = {
    "all": UNRESTRICTED,
    "narrow": Grant(name="narrow", roles=frozenset({Role.SUBSCRIBER}), allowed=PatternSet(["a.*"])),
    "writer": Grant(name="writer", roles=frozenset({Role.PUBLISHER})),
}

GOOD = {"host": "localhost", "authorization": "Bearer narrow"}


def admissions(house: House) -> Admissions:
    return Admissions(house.gateway, Gate(authenticator=knowing(GRANTS), bound_host="localhost"))


def request(**headers: str) -> Request:
    return Request(peer="192.0.2.1", scheme="http", headers={k.replace("_", "-"): v for k, v in headers.items()})


def let_in(asked: Request, transport: Transport, query: str, *, has_room: bool = True) -> Admission:
    house = admissions(House(max_clients=100 if has_room else 0))
    house.arrive(asked)
    return house.admit(asked, Role.SUBSCRIBER, transport, query=query)


HOST = (421, RefusalReason.HOST)
ORIGIN = (403, RefusalReason.ORIGIN)
ROOM = (503, RefusalReason.MAX_CLIENTS)
MALFORMED = (400, RefusalReason.MALFORMED)
NO_TOKEN = (401, RefusalReason.NO_TOKEN)
BAD_TOKEN = (401, RefusalReason.BAD_TOKEN)
ROLE = (403, RefusalReason.ROLE)
PATTERN = (403, RefusalReason.PATTERN)

EVIL = {"host": "evil.example", "origin": "http://other.example"}
PAGE = {"host": "localhost", "origin": "http://evil.example"}
NOBODY = {"host": "localhost"}
OFFER = {"host": "localhost", "sec_websocket_protocol": "tidegate.v1, tidegate.token.=="}
STRANGER = {"host": "localhost", "authorization": "Bearer x"}
WRITER = {"host": "localhost", "authorization": "Bearer writer"}

Steps = list[tuple[tuple[int, RefusalReason], dict[str, str], str, bool]]

WEBSOCKET: Steps = [
    (HOST, EVIL, "types=A&since=x", False),
    (ORIGIN, PAGE, "types=A&since=x", False),
    (ROOM, NOBODY, "types=A&since=x", False),
    (MALFORMED, NOBODY, "types=A&since=x", True),
    (MALFORMED, NOBODY, "types=b&since=x", True),
    (BAD_TOKEN, OFFER, "types=b&token=narrow", True),
    (NO_TOKEN, NOBODY, "types=b", True),
    (BAD_TOKEN, STRANGER, "types=b&token=narrow", True),
    (ROLE, WRITER, "types=b", True),
    (PATTERN, GOOD, "types=b", True),
]

EVENT_STREAM: Steps = [
    (HOST, EVIL, "types=A&since=x", False),
    (ORIGIN, PAGE, "types=A&since=x", False),
    (MALFORMED, NOBODY, "types=A&since=x", False),
    (NO_TOKEN, NOBODY, "types=b&since=x", False),
    (NO_TOKEN, OFFER, "types=b&since=x", False),
    (BAD_TOKEN, STRANGER, "types=b&since=x", False),
    (ROLE, WRITER, "types=b&since=x", False),
    (MALFORMED, GOOD, "types=b&since=x", False),
    (ROOM, GOOD, "types=b", False),
    (PATTERN, GOOD, "types=b", True),
]

PLAIN: Steps = [
    (HOST, EVIL, "types=A&since=x", False),
    (ORIGIN, PAGE, "types=A&since=x", False),
    (NO_TOKEN, NOBODY, "types=A&token=narrow", False),
    (BAD_TOKEN, STRANGER, "types=A", False),
    (ROLE, WRITER, "types=A", False),
]


@pytest.mark.parametrize(
    ("transport", "expected", "headers", "query", "has_room"),
    [
        *(("websocket", *step) for step in WEBSOCKET),
        *(("sse", *step) for step in EVENT_STREAM),
        *(("http", *step) for step in PLAIN),
    ],
)
def test_the_first_question_that_fails_answers(
    transport: Transport,
    expected: tuple[int, RefusalReason],
    headers: dict[str, str],
    query: str,
    has_room: bool,
) -> None:
    with pytest.raises(AccessRefused) as caught:
        let_in(request(**headers), transport, query, has_room=has_room)
    assert (caught.value.status, caught.value.reason) == expected


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_what_a_stream_begins_with(transport: Transport) -> None:
    found = let_in(request(**GOOD), transport, "types=a.b&since=e1:7")
    patterns, token = PatternSet(["a.b"]), Secret("narrow")
    assert found == Admission(GRANTS["narrow"], "192.0.2.1", patterns, since=Position("e1", 7), token=token)
    assert let_in(request(**GOOD), transport, "").by_default


def test_only_an_event_stream_reads_the_field_that_browsers_send() -> None:
    asked = request(**GOOD, last_event_id="from another gateway")
    assert let_in(asked, "sse", "since=e1:7").since == NOT_OURS
    assert let_in(asked, "websocket", "since=e1:7").since == Position("e1", 7)


def test_a_plain_request_needs_neither_room_nor_a_query() -> None:
    found = let_in(request(**GOOD), "http", "types=A", has_room=False)
    assert found == Admission(GRANTS["narrow"], "192.0.2.1")


@pytest.mark.parametrize(
    ("headers", "query", "name"),
    [
        ({"authorization": "Bearer all", "sec_websocket_protocol": "tidegate.v1, tidegate.token.=="}, "", "anonymous"),
        ({"sec_websocket_protocol": "tidegate.v1, tidegate.token.bmFycm93"}, "token=writer", "narrow"),
        ({"sec_websocket_protocol": "tidegate.v1"}, "token=narrow", "narrow"),
    ],
)
def test_a_header_wins_over_the_subprotocol_and_that_over_the_query(
    headers: dict[str, str], query: str, name: str
) -> None:
    assert let_in(request(host="localhost", **headers), "websocket", query).grant.name == name


def test_what_cannot_be_cut_down_needs_a_token_without_types() -> None:
    house = admissions(House())
    asked = request(authorization="Bearer all")
    assert house.admit(asked, Role.SUBSCRIBER, is_unrestricted=True).grant is UNRESTRICTED
    with pytest.raises(AccessRefused, match="without types") as caught:
        house.admit(request(authorization="Bearer narrow"), Role.SUBSCRIBER, is_unrestricted=True)
    assert (caught.value.status, caught.value.reason) == PATTERN


def test_a_probe_may_ask_for_any_host_but_no_page_of_others_may() -> None:
    house = admissions(House())
    house.arrive(request(host="evil.example"), at_any_host=True)
    with pytest.raises(AccessRefused) as caught:
        house.arrive(request(**EVIL), at_any_host=True)
    assert (caught.value.status, caught.value.reason) == ORIGIN


async def test_who_was_refused_is_counted_where_it_is_to_be() -> None:
    house = House()
    with_address = Gate(authenticator=knowing(GRANTS), bound_host="localhost", trusted_proxies=["192.0.2.1"])
    noting = Admissions(house.gateway, with_address)
    with structlog.testing.capture_logs() as logs:
        noting.note_refused(request(x_forwarded_for="203.0.113.9"), "sse", RefusalReason.ROLE)
        noting.note_refused(request(), "sse", None)
    house.gateway.refusals.close()
    assert [line["address"] for line in logs] == ["203.0.113.9"]
    assert house.metrics.observed == [BusConnected(connected=True), RequestRefused("sse", RefusalReason.ROLE)]
