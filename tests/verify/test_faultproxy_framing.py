import pytest

from tidegate.verify.faultproxy.framing import (
    MAX_HEAD_BYTES,
    MAX_REQUEST_BYTES,
    BadHttp,
    End,
    Part,
    Request,
    RequestReader,
    ResponseHead,
    ResponseReader,
)

POST = b"POST /rpc HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
OK = b"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def responses(data: bytes, *, bodiless: bool = False, step: int = 10**6) -> list[Part]:
    reader = ResponseReader(bodiless=bodiless)
    return [part for i in range(0, len(data), step) for part in reader.feed(data[i : i + step])]


def body(parts: list[Part]) -> bytes:
    return b"".join(part for part in parts if isinstance(part, bytes))


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_requests(step: int) -> None:
    reader = RequestReader()
    data = POST + b"GET /x?y HTTP/1.1\r\nConnection: close\r\n\r\n"
    found = [request for i in range(0, len(data), step) for request in reader.feed(data[i : i + step])[0]]
    assert found == [
        Request(method="POST", target="/rpc", headers=((b"Host", b"a"), (b"Content-Length", b"3")), body=b"abc"),
        Request(method="GET", target="/x?y", headers=((b"Connection", b"close"),), keep_alive=False),
    ]
    assert found[0].encode() == POST
    assert found[1].encode() == b"GET /x?y HTTP/1.1\r\nConnection: close\r\n\r\n"


def test_a_request_is_encoded_whole_and_without_what_is_named() -> None:
    headers = (
        (b"Transfer-Encoding", b"chunked"),
        (b"Expect", b"100-continue"),
        (b"A", b"1"),
        (b"Accept-Encoding", b"br"),
    )
    request = Request(method="POST", target="/", headers=headers, body=b"xy")
    encoded = request.encode(without=frozenset({b"accept-encoding"}))
    assert encoded == b"POST / HTTP/1.1\r\nA: 1\r\nContent-Length: 2\r\n\r\nxy"


def test_an_upgrade_gives_back_what_follows_it() -> None:
    reader = RequestReader()
    upgrade = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    (request,), rest = reader.feed(upgrade + b"\x81\x00more")
    assert request.upgrade
    assert rest == b"\x81\x00more"
    assert [r.method for r in reader.feed(POST)[0]] == ["POST"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"what?\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_BYTES, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (MAX_REQUEST_BYTES + 1), 413),
    ],
    ids=["not HTTP", "head", "body"],
)
def test_requests_that_are_refused(data: bytes, status: int) -> None:
    reader = RequestReader()
    with pytest.raises(BadHttp) as refused:  # noqa: PT012
        for i in range(0, len(data), 10_000):
            reader.feed(data[i : i + 10_000])
    assert refused.value.status == status


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_responses(step: int) -> None:
    for data, whole in ((OK, b"abc"), (CHUNKED, b"abcd")):
        head, *rest, end = responses(data, step=step)
        assert isinstance(head, ResponseHead)
        assert (head.status, head.reason, head.keep_alive, head.is_stream) == (200, b"Fine", True, False)
        assert head.chunked is (data is CHUNKED)
        assert head.encode() == data[: data.index(b"\r\n\r\n") + 4]
        assert (body(rest), end) == (whole, End.END)


def test_informational_responses_are_left_out() -> None:
    parts = responses(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    assert [part.status for part in parts if isinstance(part, ResponseHead)] == [200]
    assert (body(parts), parts[-1]) == (b"abc", End.END)


def test_answers_to_head_end_with_their_head() -> None:
    assert responses(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", bodiless=True)[1:] == [End.END]


@pytest.mark.parametrize("step", [1, 1000])
def test_after_101_every_byte_is_body(step: int) -> None:
    reader = ResponseReader(bodiless=False)
    data = SWITCH + b"\x81\x02hi"
    head, *rest = [part for i in range(0, len(data), step) for part in reader.feed(data[i : i + step])]
    assert isinstance(head, ResponseHead)
    assert head.is_stream
    assert body(rest) == b"\x81\x02hi"
    assert reader.feed(b"HTTP") == [b"HTTP"]
    assert reader.eof() == [End.END]


def test_event_streams_are_streams() -> None:
    head = ResponseHead(status=200, headers=((b"content-type", b"text/event-stream; charset=utf-8"),))
    assert head.is_stream


def test_the_end_of_the_stream_ends_a_body_without_length() -> None:
    reader = ResponseReader(bodiless=False)
    head, piece = reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert isinstance(head, ResponseHead)
    assert (head.keep_alive, piece) == (False, b"abc")
    assert reader.eof() == [End.END]
    assert reader.eof() == []


@pytest.mark.parametrize("data", [b"", OK[:20], OK[:-1], CHUNKED[:-1]], ids=["nothing", "head", "body", "chunks"])
def test_the_end_of_the_stream_in_mid_response_is_an_error(data: bytes) -> None:
    reader = ResponseReader(bodiless=False)
    reader.feed(data)
    with pytest.raises(BadHttp, match="got the end of the stream"):
        reader.eof()


def test_responses_that_are_refused() -> None:
    with pytest.raises(BadHttp, match=r"expected HTTP/1\.1"):
        responses(b"SSH-2.0-OpenSSH\r\n\r\n")
    with pytest.raises(BadHttp, match="head of at most"):
        responses(b"HTTP/1.1 200 OK\r\nA: " + b"x" * (MAX_HEAD_BYTES + 20_000), step=10_000)


def test_replacing_headers() -> None:
    head = ResponseHead(status=200, reason=b"OK", headers=((b"a", b"1"), (b"Connection", b"x"), (b"c", b"3")))
    changed = head.replacing((b"connection", b"close"), dropping=frozenset({b"a"}))
    assert changed.headers == ((b"c", b"3"), (b"connection", b"close"))
