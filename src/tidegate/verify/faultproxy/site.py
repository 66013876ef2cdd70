"""What all connections of one proxy share."""

import random
from collections.abc import Callable

import msgspec

from tidegate.verify.faultproxy.calls import CallLog
from tidegate.verify.faultproxy.delivery import HeldAnswers
from tidegate.verify.faultproxy.drawing import FaultSet
from tidegate.verify.faultproxy.upstream import Address


class Site(msgspec.Struct, frozen=True):
    """What all connections of one proxy share. `changed` is told whenever a call has come or ended.

    Jitter has a source of chance of its own, so that timing has no say in which calls are hit.
    """

    upstream: Address
    faults: FaultSet
    calls: CallLog
    held: HeldAnswers
    jitter: random.Random
    changed: Callable[[], None]
