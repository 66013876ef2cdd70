"""The ways to end a connection before its client does: refuse a request, linger, cut off, close within a timeout.

Each is bounded: a client that neither ends its side nor reads is aborted after a while. The caller discards what still
comes. Knows nothing of parsing.
"""

import asyncio

from tidegate.core.problem import ProblemAnswer
from tidegate.errors import LeaveReason
from tidegate.inbound.server.bad_request import BadRequest
from tidegate.inbound.server.reading import Stage
from tidegate.inbound.server.turns import Turns

LINGER_S = 2.0
"""Seconds to read on after a refusal. Closing with unread bytes sends a reset, which may destroy the answer."""


def refuse(
    bad: BadRequest, transport: asyncio.Transport, *, turns: Turns, stage: Stage, common: bytes, request_id: str
) -> None:
    """Answer a request that broke a rule at `stage`, and close. Close without an answer if it would end up in another.

    `common` are the header lines of every answer.
    """
    is_of_a_body, last = stage is Stage.BODY, turns.last
    answer = ProblemAnswer(bad.status, bad.detail).closing(common, request_id=request_id)
    if not turns.is_answering:
        # If it is of a body, its request was answered before the body was complete, and must not be answered twice.
        linger(transport, None if is_of_a_body else answer)
    elif is_of_a_body and last is not None and last is turns.running and not last.started:
        turns.disconnect(bad.left)  # its handler must not answer too
        linger(transport, answer)
    else:
        cut_off(transport, turns, bad.left)


def linger(transport: asyncio.Transport, last_words: bytes | None) -> None:
    """Send `last_words` and end our side of the connection. The client has `LINGER_S` to end its own."""
    if last_words is not None:
        transport.write(last_words)
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()
    asyncio.get_running_loop().call_later(LINGER_S, transport.abort)


def cut_off(transport: asyncio.Transport, turns: Turns, reason: LeaveReason) -> None:
    """Close the connection now, for `reason`, and drop what has not been sent."""
    turns.disconnect(reason)  # first: `connection_lost` comes later, and until then handlers would write
    transport.abort()


def close_within(transport: asyncio.Transport, seconds: float) -> None:
    """Close when all has been sent, or after `seconds` if the client does not read it."""
    if not transport.is_closing():
        transport.close()
        asyncio.get_running_loop().call_later(seconds, transport.abort)
