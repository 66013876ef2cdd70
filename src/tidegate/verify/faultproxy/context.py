"""The context that all connections of one proxy share."""

import random
from collections.abc import Callable

import msgspec

from tidegate.verify.faultproxy.calls import CallLog
from tidegate.verify.faultproxy.delivery import HeldAnswers
from tidegate.verify.faultproxy.drawing import FaultSet
from tidegate.verify.faultproxy.upstream import Address


class ProxyContext(msgspec.Struct, frozen=True):
    """The context that all connections of one proxy share. `changed` is called whenever a call has come or ended.

    Jitter has its own random generator. Otherwise the timing of writes would influence which calls are hit.
    """

    upstream: Address
    faults: FaultSet
    calls: CallLog
    held: HeldAnswers
    jitter: random.Random
    changed: Callable[[], None]
