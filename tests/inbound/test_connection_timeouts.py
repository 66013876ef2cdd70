"""Which timeout a connection has in each of its states, in virtual time: when it ends, and what is counted."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from serving import request
from simulation.virtual import Listener, VirtualLoop, run_in_virtual_time

from tidegate.errors import RefusalReason
from tidegate.inbound.server import serve

HANDSHAKE_S = 10.0
KEEP_ALIVE_S = 75.0

GET = request("GET", "/", host="localhost").replace(b"Connection: close\r\n", b"")
POST = GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 1000\r\n\r\n")
HALF = b"GET / HT"

LATE = [RefusalReason.HEAD_TIMEOUT]
Sent = Sequence[tuple[float, bytes]]


def drips(first_s: int, piece: bytes, *, first: bytes = b"") -> Sent:
    """`first`, then `piece` once a second, for longer than any connection lasts."""
    return [(float(first_s), first or piece), *[(float(second), piece) for second in range(first_s + 1, 400)]]


def ended(sent: Sent, *, answer_s: float = 0.0) -> tuple[float, list[RefusalReason]]:
    """Return after how many seconds the server ended a connection on which `sent` came, and what it counted.

    Every request is answered `answer_s` after its head, without a look at its body.
    """
    refused: list[RefusalReason] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(answer_s)
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    async def write(writer: asyncio.StreamWriter) -> None:
        for at, data in sent:
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            writer.write(data)

    async def main(loop: VirtualLoop) -> float:
        async with serve(
            application,
            lambda *_: None,
            sock=Listener(loop, "127.0.0.1", 80),
            handshake_s=HANDSHAKE_S,
            keep_alive_s=KEEP_ALIVE_S,
            refused=lambda reason, *_: refused.append(reason),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", 80)
            writing = asyncio.create_task(write(writer))
            with suppress(ConnectionError):
                await reader.read()
            ended_at: float = loop.time()
            writing.cancel()
            writer.close()
        return ended_at

    return round(run_in_virtual_time(main), 3), refused


@pytest.mark.parametrize(
    "sent", [[], [(1.0, b"\r\n")], drips(1, b"\r\n"), [(9.0, HALF)], drips(1, b"x", first=b"GET /")]
)
def test_a_new_connection_has_one_time_for_its_first_head(sent: Sent) -> None:
    assert ended(sent) == (HANDSHAKE_S, LATE)


@pytest.mark.parametrize("sent", [[], [(5.0, b"\r\n")], drips(4, b"\r\n")])
def test_between_requests_it_may_be_idle_and_empty_lines_do_not_put_its_end_off(sent: Sent) -> None:
    assert ended([(3.0, GET), *sent]) == (3.0 + KEEP_ALIVE_S, [])


def test_a_request_puts_the_end_of_an_idle_connection_off() -> None:
    assert ended([(3.0, GET), (70.0, b"\r\n" + GET)]) == (70.0 + KEEP_ALIVE_S, [])


@pytest.mark.parametrize(
    "sent", [[(70.0, HALF)], [(69.0, b"\r\n"), (70.0, b"\r\n" + HALF)], drips(70, b"x", first=b"GET /")]
)
def test_a_later_head_has_its_time_from_its_first_byte(sent: Sent) -> None:
    assert ended([(3.0, GET), *sent]) == (70.0 + HANDSHAKE_S, LATE)


def test_half_a_head_that_came_with_an_answered_request_has_its_time() -> None:
    assert ended([(3.0, GET + HALF)]) == (3.0 + HANDSHAKE_S, LATE)


@pytest.mark.parametrize("sent", [[], [(12.0, b"x")], drips(4, b"x")])
def test_the_rest_of_an_answered_request_has_its_time_and_counts_as_no_late_head(sent: Sent) -> None:
    assert ended([(3.0, POST), *sent]) == (3.0 + HANDSHAKE_S, [])


@pytest.mark.parametrize("rest", [[b"x" * 1000], [b"x" * 400, b"x" * 600], [b"x" * 1000, b"\r\n"]])
def test_a_connection_is_idle_again_when_the_rest_of_an_answered_request_has_come(rest: list[bytes]) -> None:
    came = [(8.0 + number, piece) for number, piece in enumerate(rest)]
    whole_at = next(at for at, piece in reversed(came) if piece != b"\r\n")
    assert ended([(3.0, POST), *came]) == (whole_at + KEEP_ALIVE_S, [])


def test_a_head_behind_the_rest_of_an_answered_request_has_a_time_of_its_own() -> None:
    assert ended([(3.0, POST), (12.0, b"x" * 1000 + HALF)]) == (12.0 + HANDSHAKE_S, LATE)


@pytest.mark.parametrize("sent", [[], drips(4, b"\r\n")])
def test_while_a_request_is_answered_there_is_no_timeout(sent: Sent) -> None:
    assert ended([(3.0, GET), *sent], answer_s=200.0) == (203.0 + KEEP_ALIVE_S, [])


@pytest.mark.parametrize("sent", [[(5.0, HALF)], drips(5, b"x", first=b"GET /")])
def test_half_a_head_behind_an_answer_has_its_time_from_the_end_of_the_answer(sent: Sent) -> None:
    assert ended([(3.0, GET), *sent], answer_s=200.0) == (203.0 + HANDSHAKE_S, LATE)


def test_half_a_body_at_the_end_of_the_answer_has_its_time_from_there() -> None:
    assert ended([(3.0, POST), (5.0, b"x")], answer_s=200.0) == (203.0 + HANDSHAKE_S, [])
