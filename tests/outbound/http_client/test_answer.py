import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.outbound.http_client.answer import (
    FRAME_BYTES,
    INTERIM_ANSWERS,
    PIECE_BYTES,
    REFUSAL_BYTES,
    AnswerReader,
    Unreadable,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes, body_bytes: int = 1000) -> AnswerReader:
    reader = AnswerReader(body_bytes=body_bytes)
    for piece in pieces:
        reader.feed(piece)
    return reader


def refusal_of(*pieces: bytes, body_bytes: int = 1000) -> str:
    with pytest.raises(Unreadable) as caught:
        read(*pieces, body_bytes=body_bytes)
    return str(caught.value)


def taken_until_refused(head: bytes, piece: bytes, *, body_bytes: int = 1_000_000) -> int:
    """How many bytes of an endless stream are read before it is refused."""
    reader = AnswerReader(body_bytes=body_bytes)
    reader.feed(head)
    for taken in range(len(head), 100 * FRAME_BYTES, len(piece)):
        try:
            reader.feed(piece)
        except Unreadable:
            return taken
    raise AssertionError("everything was taken")


class TestAWholeAnswer:
    @pytest.mark.parametrize(
        ("said", "status", "body", "reusable"),
        [
            (OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", True),
            (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}", 200, b"{}", False),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
            (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
            (CHUNKED + b"1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n", 200, b"{}", True),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
            (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", 204, b"", False),  # {} may follow
            (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, b"", False),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"", True),
            (b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", 408, b"", False),
            (
                b"HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
                200,
                b"",
                True,
            ),
            (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc", 101, b"", False),
            (OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
            (OK.replace(b"\r", b"") + b"Content-Length: 2\n\n{}", 200, b"{}", True),
            (OK + b"X: \x01\r\n folded\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
            (OK + b"X: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
            (OK + b"X: x\r\n" * 1000 + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", True),
        ],
    )
    @pytest.mark.parametrize("size", [1, 7, 1_000_000])
    def test_is_the_same_in_whatever_pieces_it_comes(
        self, said: bytes, status: int, body: bytes, reusable: bool, size: int
    ) -> None:
        reader = read(*(said[start : start + size] for start in range(0, len(said), size)))
        assert (reader.whole, reader.status, bytes(reader.body)) == (True, status, body)
        assert reader.reusable is reusable or size == 1_000_000

    def test_may_end_with_the_connection(self) -> None:
        reader = read(OK + b"\r\n[1", b"]")
        assert not reader.whole
        assert reader.end_of_stream()
        assert (bytes(reader.body), reader.reusable) == (b"[1]", False)

    @pytest.mark.parametrize(
        "said", [b"", b"HTTP/1.1 2", OK, OK + b"Content-Length: 2\r\n\r\n{", CHUNKED + b"1\r\n{\r\n"]
    )
    def test_does_not_end_earlier(self, said: bytes) -> None:
        reader = read(said)
        assert not reader.end_of_stream()
        assert reader.begun is (said != b"")

    @pytest.mark.parametrize("more", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x00"])
    @pytest.mark.parametrize("padding", [0, PIECE_BYTES - 40])
    def test_is_not_spoilt_by_what_comes_behind_it_but_the_connection_is(self, more: bytes, padding: int) -> None:
        said = OK + b"X: " + b"x" * padding + b"\r\nContent-Length: 2\r\n\r\n{}"
        reader = read(said + more)
        assert (bytes(reader.body), reader.whole, reader.reusable) == (b"{}", True, False)

    @pytest.mark.parametrize(
        ("fields", "codings"),
        [
            (b"", []),
            (b"Content-Encoding: Identity\r\n", []),
            (b"Content-Encoding: none\r\n", []),
            (b"Content-Encoding: UTF-8\r\n", []),
            (b"Content-Encoding: utf8\r\n", []),
            (b"Content-Encoding:\r\n", []),
            (b"Content-Encoding: identity, none\r\nContent-Encoding: identity\r\n", []),
            (b"Content-Encoding: gzip\r\n", ["gzip"]),
            (b"Content-Encoding: identity\r\nContent-Encoding: br\r\n", ["br"]),
            (b"Transfer-Encoding: gzip, chunked\r\n", ["gzip"]),
            (b"Transfer-Encoding: chunked\r\n", []),
        ],
    )
    def test_names_the_codings_that_would_have_to_be_undone(self, fields: bytes, codings: list[str]) -> None:
        assert read(OK + fields + b"\r\n").codings == codings

    def test_tells_where_it_points_to(self) -> None:
        reader = read(b"HTTP/1.1 302 Found\r\nlocation: /a\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
        assert (reader.field("Location"), reader.field("Retry-After"), reader.field("X")) == ("/a", "5", None)

    def test_forgets_the_fields_of_interim_ones_and_of_trailers(self) -> None:
        reader = read(
            b"HTTP/1.1 103 E\r\nLocation: /a\r\n\r\n" + CHUNKED + b"1\r\n{\r\n0\r\nContent-Encoding: gzip\r\n\r\n"
        )
        assert (reader.field("Location"), reader.codings) == (None, [])


class TestABrokenAnswer:
    @pytest.mark.parametrize(
        ("said", "words"),
        [
            (b"SSH-2.0-x\r\n", "got bytes that are none"),
            (b"HTTP/1.1 abc\r\n", "got bytes that are none"),
            (b"HTTP/2 200 OK\r\n\r\n", "got one with a version of HTTP other than 1.0 and 1.1"),
            (OK + b"nocolon\r\n\r\n", "got one with a header line without a colon, or with a name that is none"),
            (OK + b"A b: c\r\n\r\n", "got one with a header line without a colon, or with a name that is none"),
            (OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", "got one with Content-Length twice"),
            (OK + b"Content-Length: 1x\r\n\r\n", "got one with a Content-Length that is no number"),
            (OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", "got one with a Content-Length beyond 2^64"),
            (
                OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "got one with Transfer-Encoding beside Content-Length",
            ),
            (
                OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                "got one with Transfer-Encoding beside Content-Length",
            ),
            (CHUNKED + b"xyz\r\n", "got one with a chunk size that is no number"),
            (CHUNKED + b"f" * 20 + b"\r\n", "got one with a chunk size beyond 2^64"),
            (CHUNKED + b"1\r\n{}\r\n", "got one with an error in it (Expected LF after chunk data)"),
        ],
    )
    def test_is_told_by_what_is_wrong_with_it(self, said: bytes, words: str) -> None:
        assert refusal_of(said) == f"expected an HTTP response, {words}"


class TestABound:
    def test_of_the_body_is_the_last_byte_that_passes(self) -> None:
        assert len(read(CHUNKED + b"a\r\n" + b"x" * 10 + b"\r\n0\r\n\r\n", body_bytes=10).body) == 10
        assert refusal_of(CHUNKED + b"b\r\n" + b"x" * 11, body_bytes=10).endswith("at most 10 bytes, got more")
        assert refusal_of(OK + b"Content-Length: 11\r\n\r\n", body_bytes=10).endswith("at most 10 bytes, got 11")

    def test_of_interim_answers_is_their_number(self) -> None:
        interim, final = b"HTTP/1.1 102 P\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"
        assert read(interim * INTERIM_ANSWERS + final).whole
        words = f"expected an answer after at most {INTERIM_ANSWERS} interim ones (1xx), got more"
        assert refusal_of(interim * (INTERIM_ANSWERS + 1) + final) == words

    @pytest.mark.parametrize(
        ("head", "piece", "words"),
        [
            (b"", b"HTTP/1.1 103 E\r\nLink: " + b"x" * 4000 + b"\r\n\r\n", "expected the head of an answer within"),
            (OK + b"X: ", b"x" * 1000, "expected the head of an answer within"),
            (OK, b"a:\r\n" * 100, "expected the head of an answer within"),
            (CHUNKED + b"1;", b"x" * 1000, "expected at most 65536 bytes of chunk sizes, extensions and trailers"),
            (CHUNKED + b"0\r\n", b"a:\r\n" * 100, "expected at most 65536 bytes of chunk sizes, extensions and"),
            (CHUNKED + b"0\r\na:", b"a" * 1000, "expected at most 65536 bytes of chunk sizes, extensions and"),
            (CHUNKED, b"1;" + b"x" * 1000 + b"\r\n.\r\n", "expected at most 65536 bytes of chunk sizes, extensions"),
        ],
    )
    def test_of_what_is_no_body_ends_a_stream_without_end(self, head: bytes, piece: bytes, words: str) -> None:
        assert taken_until_refused(head, piece) <= len(head) + FRAME_BYTES + PIECE_BYTES + len(piece)
        assert refusal_of(head + piece * 1000).startswith(words)

    def test_of_what_is_no_body_lets_a_long_answer_in_tiny_chunks_pass(self) -> None:
        assert len(read(CHUNKED + b"1\r\n.\r\n" * 100_000 + b"0\r\n\r\n", body_bytes=100_000).body) == 100_000

    def test_of_what_is_no_body_is_not_saved_up_for_one_long_line(self) -> None:
        long = CHUNKED + b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"100000\r\n" + b"x" * 1_048_576 + b"\r\n0\r\na:"
        reader = read(long, body_bytes=2_000_000)
        with pytest.raises(Unreadable):
            reader.feed(b"a" * (FRAME_BYTES + PIECE_BYTES))

    @pytest.mark.parametrize(
        "said",
        [
            b"HTTP/1.1 500 Error\r\nContent-Length: 65537\r\n\r\n",
            b"HTTP/1.1 500 Error\r\n\r\n" + b"x" * (REFUSAL_BYTES + 1),
            b"HTTP/1.1 500 Error\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n" + b"x" * (REFUSAL_BYTES + 1),
        ],
    )
    def test_of_a_body_that_is_not_asked_for_is_no_failure(self, said: bytes) -> None:
        reader = read(said, body_bytes=10_000_000)
        assert (reader.whole, reader.status, bytes(reader.body), reader.reusable) == (True, 500, b"", False)

    def test_of_a_body_that_is_not_asked_for_lets_small_ones_pass(self) -> None:
        reader = read(b"HTTP/1.1 500 Error\r\nContent-Length: 2\r\n\r\n{}")
        assert (reader.whole, bytes(reader.body), reader.reusable) == (True, b"{}", True)


@pytest.mark.parametrize(
    "said", [OK + b"nocolon\r\n", OK + b"\r\n" + b"x" * 11, CHUNKED + b"0\r\n" + b"a:\r\n" * 20_000]
)
def test_a_refused_answer_is_given_back_at_once(said: bytes) -> None:
    """Without waiting for the garbage collector, which a gateway runs seldom."""
    gc.disable()
    try:
        reader = AnswerReader(body_bytes=10)
        gone = weakref.ref(reader)
        with pytest.raises(Unreadable):
            reader.feed(said)
        del reader
        assert gone() is None
    finally:
        gc.enable()


@given(
    st.lists(
        st.sampled_from([OK, b"HTTP/1.1 103 E\r\n\r\n", b"Content-Length: 3\r\n", b"\r\n", b"0\r\n", b"x"])
        | st.binary()
    )
)
def test_no_answer_whatever_raises_anything_but_unreadable(pieces: list[bytes]) -> None:
    reader = AnswerReader(body_bytes=100)
    try:
        for piece in pieces:
            if reader.whole:
                break
            reader.feed(piece)
    except Unreadable:
        return
    assert len(reader.body) <= 100
    reader.end_of_stream()
