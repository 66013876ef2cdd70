"""One HTTP connection on its transport: requests in, their answers out one after the other, and its end.

`reading` parses the requests, `handlers` decides who answers each, and `cycle` writes the answer. This module owns what
they share: the transport, the order of answers, the timeouts, and the end of a connection that broke a rule.
"""

import asyncio
from typing import cast

import structlog

from tidegate.core.intake import Intake
from tidegate.core.problem import ProblemAnswer
from tidegate.errors import RefusalReason
from tidegate.inbound.server.cycle import RequestCycle
from tidegate.inbound.server.deadlines import FullTransport
from tidegate.inbound.server.handlers import Peer
from tidegate.inbound.server.reading import BadRequest, RequestHead, RequestReader, Stage
from tidegate.inbound.server.shared import Shared, Use
from tidegate.inbound.server.turns import PIPELINED, Turns

LINGER_S = 2.0
"""Seconds to read on after a refused request. Closing with unread bytes is a reset, which may destroy the answer."""

log = structlog.get_logger("tidegate.http")


class HttpConnection(asyncio.Protocol):
    """One connection until it ends or becomes a WebSocket."""

    __slots__ = (
        "__weakref__",
        "_full",
        "_held",
        "_intake",
        "_may_hold",
        "_peer",
        "_reader",
        "_reading_paused",
        "_shared",
        "_transport",
        "_turns",
        "_use",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._use = Use.READ
        self._intake = Intake(shared.body_bytes)
        self._reader: RequestReader = RequestReader(self, self._intake)
        self._turns = Turns()
        self._may_hold = True
        self._held: RequestCycle | None = None
        self._reading_paused = False
        self._full: FullTransport | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self._peer = Peer(self._transport, (name[0], name[1]) if name else None, self._shared.scheme)
        self._shared.connections.add(self)
        self._shared.heads.begin(self)
        if self._shared.is_ending:  # it was accepted after the others were told
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        self._shared.idle.stop(self)
        self._may_hold = True
        while data and self._use is Use.READ:
            try:
                data = self._reader.feed(data)
            except BadRequest as bad:
                self._refuse(bad)
        if self._held is not None:
            self._start_held()
        if self._use is Use.HANDED_ON and data:  # frames may come in the same read as the upgrade request
            cast("asyncio.Protocol", self._transport.get_protocol()).data_received(data)
        elif self._waits_for_request():
            self._shared.heads.begin(self)

    def eof_received(self) -> bool:
        """A client that ends its own direction alone, behind a whole request, still gets the answer.

        Of an answer that has begun it is the end: a stream has no other way to see its client leave. TLS has no half
        of an end.
        """
        last = self._turns.last
        if last is None or last.complete or last.started or not last.is_whole or self._shared.scheme == "https":
            return False
        last.answer.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._turns.disconnect()
        self._leave()

    def pause_writing(self) -> None:
        self._full = FullTransport(
            self._transport,
            grace_s=self._shared.slow_grace_s,
            is_excused=self._answers_in_pieces,
            stuck=self._answer_is_stuck,
        )

    def resume_writing(self) -> None:
        self._end_full()

    # RequestSink

    def request_begins(self) -> None:
        if not self._may_hold:  # one before it was answered within this read
            self._shared.idle.stop(self)

    def request_head(self, head: RequestHead) -> None:
        if self._transport.is_closing():  # behind one that was answered at once, and was the last
            self._use = Use.THROWN_AWAY
            return
        if self._turns.are_full:
            raise BadRequest(400, f"expected at most {PIPELINED} requests to wait for their turn")
        self._shared.heads.stop(self)
        cycle = RequestCycle(self, head, common=self._shared.common)
        if self._shared.is_ending:
            cycle.answer.keep_alive = False
        if self._turns.add(cycle):
            self._start_or_hold(cycle)
        else:
            self.pause_reading()  # it has to wait, and so must the peer: else it fills our memory with requests

    def request_body(self, piece: bytes) -> None:
        if self._turns.last is not None:
            self._turns.last.take(piece)

    def request_ends(self) -> None:
        if self._turns.last is not None:
            self._turns.last.end()
        if self._held is not None:
            held, self._held = self._held, None
            self._shared.handlers.answer_at_once(held, self._peer)

    def upgrade(self, head: RequestHead) -> None:
        self._shared.heads.stop(self)
        if self._turns.is_answering or self.is_full or self._transport.is_closing():
            # The next protocol would not hear from a transport that is full already that it is.
            self._cut_off()
            return
        self._use = Use.HANDED_ON
        self._leave()
        self._shared.handlers.upgrade(head, self._peer)

    # Carrier

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    @property
    def is_full(self) -> bool:
        return self._full is not None

    async def drained(self) -> None:
        if self._full is not None:
            await self._full.ended()

    def close(self) -> None:
        self._transport.close()

    def pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def answered(self) -> None:
        self._intake.request_answered()
        if self._transport.is_closing():
            return
        self.resume_reading()
        following = self._turns.advance()
        if following is not None:
            self._shared.handlers.start(following, self._peer)
        else:
            self._shared.idle.begin(self)

    # the server's

    def shutdown(self) -> None:
        """End with the answers that are under way, or now if there are none."""
        last = self._turns.last
        if last is None or last.complete:
            self._transport.close()
        else:
            last.answer.keep_alive = False

    def abort(self) -> None:
        """End now, whatever is under way."""
        self._transport.abort()

    def head_overdue(self) -> None:
        """A whole request head should have come by now."""
        log.debug("no whole request in time", peer=self._peer.address, handshake_s=self._shared.heads.after_s)
        self._shared.refused(RefusalReason.HEAD_TIMEOUT, self._peer.address)
        self.idle_overdue()

    def idle_overdue(self) -> None:
        """Close once what is written has been taken, or without that if nobody takes it."""
        if not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(self._shared.heads.after_s, self._transport.abort)

    # in order

    def _start_or_hold(self, cycle: RequestCycle) -> None:
        """Start the answer, or hold it until the end of this read, if it may then be answered without a task.

        At most one request of a read is answered that way: a peer that sends many must not delay others. None is while
        the transport is full, because waiting for room needs a task.
        """
        if self._may_hold and not self.is_full and self._shared.handlers.answers_at_once(cycle.head):
            self._may_hold = False
            self._held = cycle
        else:
            self._shared.handlers.start(cycle, self._peer)

    def _start_held(self) -> None:
        """The read is over, and the rest of the held request's body has not come: let the application wait for it."""
        held, self._held = self._held, None
        if held is not None and self._use is Use.READ:
            self._shared.handlers.start(held, self._peer)

    def _waits_for_request(self) -> bool:
        """Whether the peer has to send the rest of a request, within the timeout for heads."""
        is_over = self._use is not Use.READ or self._transport.is_closing()
        return not (is_over or self._turns.is_answering or self in self._shared.idle)

    def _answers_in_pieces(self) -> bool:
        running = self._turns.running
        return running is not None and running.started and not running.complete

    # out of order

    def _refuse(self, bad: BadRequest) -> None:
        """Answer a malformed request and close. Only close if an answer would end up inside another one."""
        reason = RefusalReason.TOO_LARGE if bad.status in {413, 431} else RefusalReason.MALFORMED
        self._shared.refused(reason, self._peer.address)
        is_of_a_body, last = self._reader.stage is Stage.BODY, self._turns.last
        if not is_of_a_body and not self._turns.is_answering:
            self._answer(bad)
        elif is_of_a_body and not self._turns.is_answering:
            self._linger()
        elif is_of_a_body and last is not None and last is self._turns.running and not last.started:
            self._turns.disconnect()
            self._answer(bad)
        else:
            self._cut_off()

    def _answer(self, bad: BadRequest) -> None:
        answer = ProblemAnswer(bad.status, bad.detail)
        self._transport.write(answer.closing(self._shared.common.block()))
        self._linger()

    def _linger(self) -> None:
        """End our side and throw away what still comes: closing at once would be a reset, and take the answer back."""
        self._use = Use.THROWN_AWAY
        self._shared.heads.stop(self)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    def _cut_off(self) -> None:
        """End the connection now. Running answers hear of it before they could write to what is closed."""
        self._use = Use.THROWN_AWAY
        self._turns.disconnect()
        self._transport.abort()

    def _answer_is_stuck(self) -> None:
        log.debug("an answer is not taken", peer=self._peer.address, slow_grace_s=self._shared.slow_grace_s)
        self._cut_off()

    def _end_full(self) -> None:
        if self._full is not None:
            self._full.end()
            self._full = None

    def _leave(self) -> None:
        """Nothing comes here any more. What refers to this object is let go, so that no cycle is left to collect."""
        self._shared.heads.stop(self)
        self._shared.idle.stop(self)
        self._end_full()
        self._reader.release()
        self._turns.clear()
        self._held = None
        self._shared.connections.discard(self)
        self._shared.gone()
