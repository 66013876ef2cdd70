"""Why a client left, as its connection's close frames and the end of its transport tell."""

from tidegate.codes import LEAVE_REASONS, LeaveReason
from tidegate.inbound.websocket.frames import INVALID_DATA, PROTOCOL_ERROR, TOO_BIG
from tidegate.inbound.websocket.wire import CloseFrame, Wire

_REASONS: dict[int, LeaveReason] = {
    **{code.value: reason for code, reason in LEAVE_REASONS.items()},
    PROTOCOL_ERROR: LeaveReason.PROTOCOL_ERROR,
    INVALID_DATA: LeaveReason.PROTOCOL_ERROR,
    TOO_BIG: LeaveReason.TOO_LARGE,
}


def departure(wire: Wire | None, error: Exception | None, *, given_up: LeaveReason | None) -> tuple[LeaveReason, str]:
    """Return why a client left, and details for the log, which the client may have chosen.

    The first close frame decides. Without one, we aborted the connection because the client was `given_up`, or it was
    lost, by `error` if that is known.
    """
    if wire is not None and wire.close_rcvd is not None and not (wire.close_sent and not wire.close_rcvd_then_sent):
        return LeaveReason.CLIENT_CLOSED, _shown(wire.close_rcvd)
    if wire is not None and wire.close_sent is not None:
        return _REASONS.get(wire.close_sent.code, LeaveReason.ERROR), _shown(wire.close_sent)
    return given_up or LeaveReason.CONNECTION_LOST, str(error or "")


def _shown(close: CloseFrame) -> str:
    return f"{close.code}: {close.reason}" if close.reason else str(int(close.code))
