"""One HTTP connection: reads requests from its transport, and has them answered one after the other.

`reading` parses the requests, `handlers` chooses who answers each, `turns` keeps the order, and `cycle` writes the
answer. `endings` has the ways in which a connection ends. This module owns the rest: the transport, what becomes of its
input, and which timeout it has.
"""

import asyncio
from typing import cast

import structlog

from tidegate.core.intake import Intake
from tidegate.errors import LeaveReason, RefusalReason
from tidegate.inbound.server import endings
from tidegate.inbound.server.bad_request import BadRequest
from tidegate.inbound.server.cycle import RequestCycle
from tidegate.inbound.server.deadlines import FullTransport
from tidegate.inbound.server.handlers import Peer
from tidegate.inbound.server.last_places import LastPlace
from tidegate.inbound.server.reading import RequestHead, RequestReader, Stage
from tidegate.inbound.server.shared import Input, Shared
from tidegate.inbound.server.turns import PIPELINED, Turns

log = structlog.get_logger("tidegate.http")


class HttpConnection(asyncio.Protocol):
    """One connection, until it ends or becomes a WebSocket.

    It has at most one timeout, none while a request is answered, and only whole requests renew it:

    - `heads` for the first head from the beginning; for a later head from its first byte, or from the end of the answer
      before it; and for the rest of a request from the end of its answer, if that came first;
    - `idle` between two requests. Empty lines (RFC 9112, section 2.2) are no request.
    """

    __slots__ = (
        "__weakref__",
        "_full",
        "_held",
        "_input",
        "_intake",
        "_may_hold",
        "_peer",
        "_reader",
        "_reading_paused",
        "_shared",
        "_transport",
        "_turns",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._input = Input.PARSED
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
        if self._shared.is_last(transport):
            self._transport.set_protocol(LastPlace(self, self._transport, self._shared, address=self._peer.address))
        if self._shared.is_ending:  # accepted after the server had told all connections to end
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        self._may_hold = True
        while data and self._input is Input.PARSED:
            try:
                data = self._reader.feed(data)
            except BadRequest as bad:
                self._refuse(bad)
        if self._held is not None:
            self._start_held()
        if self._input is Input.PARSED:
            if self._reader.stage is Stage.HEAD and not self._turns.is_answering:
                self._shared.heads.begin(self)
        elif self._input is Input.DISCARDED:
            self._discarded(len(data))
        elif data:  # a client may send frames together with its upgrade request
            cast("asyncio.Protocol", self._transport.get_protocol()).data_received(data)

    def eof_received(self) -> bool:
        """The client sends nothing more. Return whether the connection stays open, to answer its last request.

        It does if the request is complete and no answer is being sent in pieces. Such an answer is cut short, whatever
        waits behind it: it may be an endless stream, which has no other way to notice at once that the client has left.
        TLS cannot be half-closed.
        """
        last, is_https = self._turns.last, self._shared.scheme == "https"
        if last is None or last.complete or not last.is_whole or self._turns.answers_in_pieces() or is_https:
            return False
        last.answer.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        reason = LeaveReason.CONNECTION_LOST if exc else LeaveReason.CLIENT_CLOSED
        self._turns.disconnect(LeaveReason.DRAINED if self._shared.is_ending else reason)
        self._leave()

    def pause_writing(self) -> None:
        self._full = FullTransport(
            self._transport,
            grace_s=self._shared.slow_grace_s,
            is_excused=self._turns.answers_in_pieces,
            stuck=self._answer_is_stuck,
        )

    def resume_writing(self) -> None:
        if self._full is not None:
            self._full.end()
            self._full = None

    # RequestSink

    def request_begins(self) -> None:
        self._shared.idle.stop(self)

    def request_head(self, head: RequestHead) -> None:
        if self._input is not Input.PARSED:
            return
        if self._turns.are_full:
            raise BadRequest(400, f"expected at most {PIPELINED} requests to wait for their turn")
        self._shared.heads.stop(self)
        cycle = RequestCycle(
            self, head, request_id=self._shared.request_id(self._peer.address, head.sent_id), common=self._shared.common
        )
        if self._shared.is_ending:
            cycle.answer.keep_alive = False
        if self._turns.add(cycle):
            self._start_or_hold(cycle)
        elif not self._turns.answers_in_pieces():
            # A client that does not wait for its answers is slowed down before it reaches a limit. But not behind a
            # stream: that has to be told when the client leaves, so reading goes on.
            self.pause_reading()

    def request_body(self, piece: bytes) -> None:
        if self._turns.last is not None and self._input is Input.PARSED:
            self._turns.last.take(piece)

    def request_ends(self) -> None:
        last = self._turns.last
        if last is None or self._input is not Input.PARSED:
            return
        last.end()
        if not last.answer.keep_alive:
            self._input = Input.DISCARDED
        if self._held is not None:
            held, self._held = self._held, None
            self._shared.handlers.answer_at_once(held, self._peer)
        elif last.complete:  # answered early: its rest had a timeout until now
            self._shared.heads.stop(self)
            self._shared.idle.begin(self)

    def upgrade(self, head: RequestHead) -> None:
        if self._input is not Input.PARSED:
            return
        self._shared.heads.stop(self)
        if self._turns.is_answering or self.is_full:
            # Frames must not mix with an answer. And a transport reports only once that it is full: the WebSocket's
            # protocol would not learn of it. Only a client that does not wait for its answers gets here.
            self._shared.turn_away(RefusalReason.MALFORMED, self._peer.address)
            self._cut_off(LeaveReason.PROTOCOL_ERROR)
            return
        self._input = Input.HANDED_ON
        self._leave()
        self._shared.handlers.upgrade(head, self._peer, self._shared.request_id(self._peer.address, head.sent_id))

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
        self._input = Input.DISCARDED
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
        elif self._reader.stage is Stage.BETWEEN:
            self._shared.idle.begin(self)
        else:  # part of a request has come: the rest of this one, or of the head of the next
            self._shared.heads.begin(self)

    # called by the server

    def shutdown(self) -> None:
        """Close after the answers to the requests that have come, or now if there are none."""
        last = self._turns.last
        if last is None or last.complete:
            self.close()
        else:
            last.answer.keep_alive = False
            if last.is_whole:
                self._input = Input.DISCARDED

    def abort(self) -> None:
        """Close now, and drop what has not been sent."""
        self._transport.abort()

    def request_timed_out(self) -> None:
        """The client did not send a whole request head in time, or not the rest of a request that has its answer."""
        log.debug("request timed out", peer=self._peer.address, handshake_s=self._shared.heads.after_s)
        if self._reader.stage is not Stage.BODY:  # a request with an answer is not refused once more
            self._shared.turn_away(RefusalReason.HEAD_TIMEOUT, self._peer.address)
        self.close_within_timeout()

    def close_within_timeout(self) -> None:
        """Close when all has been sent, or after `heads.after_s` seconds if the client does not read it."""
        self._input = Input.DISCARDED
        endings.close_within(self._transport, self._shared.heads.after_s)

    # answering

    def _start_or_hold(self, cycle: RequestCycle) -> None:
        """Start a task that answers, or hold the request: it is answered without a task if it is complete in this read.

        At most one request of a read is held, because a client that sends many must not delay others. None is held
        while the transport is full, because only a task can wait for room.
        """
        if self._may_hold and not self.is_full and self._shared.handlers.answers_at_once(cycle.head):
            self._may_hold = False
            self._held = cycle
        else:
            self._shared.handlers.start(cycle, self._peer)

    def _start_held(self) -> None:
        """The read ended before the body of the held request was complete: start a task that can wait for the rest."""
        held, self._held = self._held, None
        if held is not None and self._input is Input.PARSED:
            self._shared.handlers.start(held, self._peer)

    # ending

    def _discarded(self, count: int) -> None:
        """Limit what comes behind a request that ends its connection: it must not keep us busy during a long answer."""
        if self._turns.is_answering:
            self._intake.bytes_received(count)
            if self._intake.is_over:
                self._shared.turn_away(RefusalReason.TOO_LARGE, self._peer.address)
                self._cut_off(LeaveReason.TOO_LARGE)

    def _refuse(self, bad: BadRequest) -> None:
        if self._input is not Input.PARSED:
            return
        # A body belongs to the last request, whose id is known.
        last = self._turns.last if self._reader.stage is Stage.BODY else None
        request_id = self._shared.turn_away(bad.refused, self._peer.address, None if last is None else last.id)
        self._input = Input.DISCARDED
        self._shared.heads.stop(self)
        common = self._shared.common.block()
        turns, stage = self._turns, self._reader.stage
        endings.refuse(bad, self._transport, turns=turns, stage=stage, common=common, request_id=request_id)

    def _cut_off(self, reason: LeaveReason) -> None:
        self._input = Input.DISCARDED
        endings.cut_off(self._transport, self._turns, reason)

    def _answer_is_stuck(self) -> None:
        log.debug("client does not read an answer", peer=self._peer.address, slow_grace_s=self._shared.slow_grace_s)
        self._cut_off(LeaveReason.TOO_SLOW)

    def _leave(self) -> None:
        """Release everything: nothing comes here any more. Without reference cycles, the memory is freed at once."""
        self._shared.heads.stop(self)
        self._shared.idle.stop(self)
        self.resume_writing()  # whoever waits for room waits no longer
        self._reader.release()
        self._turns.clear()
        self._held = None
        self._shared.connections.discard(self)
        self._shared.gone()
