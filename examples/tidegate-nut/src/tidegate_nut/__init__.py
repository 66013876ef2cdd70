"""A plug-in of Tidegate: backends that are Network UPS Tools' server, upsd, which knows uninterruptible power supplies.

The protocol is in RFC 9271. ``method = "ups"`` answers with all supplies by name, each with its variables;
``method = "variables"`` with those of one, which ``params = { ups = "NAME" }`` names.
"""

from tidegate_nut.backend import NutBackend
from tidegate_nut.plugin import Nut

__all__ = ["Nut", "NutBackend"]
