"""Everything that a gateway will do, as one value: what `plan` makes of a configuration.

A plan is pure data: nothing is opened, read or looked up to make one, two can be compared, and no secret shows when
one is printed. `changes` says what differs between two. `tidegate.app` makes the parts from a plan; ``doctor`` and
``config check`` look at the same one.
"""

from tidegate.plan.comparing import Change, changes
from tidegate.plan.making import plan
from tidegate.plan.model import Plan, PlannedBackend, TlsFiles

__all__ = ["Change", "Plan", "PlannedBackend", "TlsFiles", "changes", "plan"]
