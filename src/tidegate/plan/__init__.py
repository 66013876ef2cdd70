"""The plan: the options of all parts of a gateway, as one value. `plan` makes it from a configuration.

A plan is pure data. Making one opens no file and no connection, printing one shows no secret, and `changes` lists the
differences between two. `tidegate.app` makes the parts from a plan; ``doctor`` and ``config check`` examine the same
plan.
"""

from tidegate.plan.comparing import Change, changes
from tidegate.plan.making import plan
from tidegate.plan.model import Plan, PlannedBackend

__all__ = ["Change", "Plan", "PlannedBackend", "changes", "plan"]
