"""What a call says about its backend, read from the rules and not from the gateway."""

import enum
from collections.abc import Sequence

from simulation.tap import Exchange
from tidegate.errors import ApplicationError, BackendError, HttpStatus, MappingFailed, NoCredentials

ALIVE_CODES = {-32600, -32601, -32602, -32700}
BUSY_STATUSES = {408, 425, 429}

Result = bytes | BackendError | None
"""What one source's part of a call came to: an answer, an error, or nothing before the deadline."""


class Verdict(enum.Enum):
    """What a call says about its backend; of a batch the first of these that any element says."""

    GOOD = 0
    BAD = 1
    ALIVE = 2
    NOTHING = 3


def verdict(results: Sequence[Result]) -> Verdict:
    """What an exchange says about its backend. Contract, section 7: one verdict for a batch."""
    return min((verdict_of(result) for result in results), key=lambda verdict: verdict.value)


def verdict_of(result: Result) -> Verdict:
    """What one element of an exchange says."""
    match result:
        case ApplicationError(rpc_code=number) if number in ALIVE_CODES:
            return Verdict.ALIVE
        case HttpStatus(status=status) if 300 <= status < 500 and status not in BUSY_STATUSES:
            return Verdict.ALIVE
        case MappingFailed():
            return Verdict.ALIVE
        case NoCredentials():
            return Verdict.NOTHING
        case bytes():
            return Verdict.GOOD
    return Verdict.BAD


def is_unreachable(exchange: Exchange, results: Sequence[Result]) -> bool:
    """Whether a failure ended before its connection stood. Whatever else failed is sick."""
    return not exchange.stood and verdict(results) is Verdict.BAD


def code(result: Result) -> str | None:
    """The error code of one result; None for an answer. No result at all: the deadline passed."""
    match result:
        case None:
            return "RPC_TIMEOUT"
        case BackendError():
            return str(result.code)
    return None
