"""What a client sent that is no acceptable request, and how its refusal is named."""

from tidegate.errors import LeaveReason, RefusalReason


class BadRequest(Exception):
    """The client sent something that is not an acceptable request. `status` and `detail` are for the answer."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)

    @property
    def refused(self) -> RefusalReason:
        """How metrics and logs name the refusal."""
        return RefusalReason.TOO_LARGE if self.status in {413, 431} else RefusalReason.MALFORMED

    @property
    def left(self) -> LeaveReason:
        """How they name the end of a stream on whose connection it came."""
        return LeaveReason.TOO_LARGE if self.status in {413, 431} else LeaveReason.PROTOCOL_ERROR
