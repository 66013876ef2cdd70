"""A TCP and HTTP proxy that injects faults, for use in front of a backend or of the gateway itself.

::

    async with FaultProxy(upstream="http://127.0.0.1:12081") as proxy:
        proxy.set(Fault.status(503, probability=0.5))
        ...
        proxy.clear()
        assert proxy.calls.max_concurrent == 1

`run` is the program, which is controlled over the HTTP API of `control`.
"""

from tidegate.verify.faultproxy.calls import CallLog, CallRecord, How
from tidegate.verify.faultproxy.control import control_app, control_server
from tidegate.verify.faultproxy.faults import FAULTS, AnyFault, Fault, fault_from, name_of
from tidegate.verify.faultproxy.program import run
from tidegate.verify.faultproxy.proxy import FaultProxy

__all__ = [
    "FAULTS",
    "AnyFault",
    "CallLog",
    "CallRecord",
    "Fault",
    "FaultProxy",
    "How",
    "control_app",
    "control_server",
    "fault_from",
    "name_of",
    "run",
]
