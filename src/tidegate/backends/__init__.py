"""What you write a plug-in with: a kind of backend in a package of its own, which a configuration uses by its name.

A package says in its ``pyproject.toml`` under the entry points ``tidegate.backends`` which plug-ins it has. Tidegate
imports only those that a configuration names as a `protocol`. `docs/plugins.md` is the manual, and `BackendPlugin` the
contract. Beside it, `tidegate.ports` has the contract of the backend that a plug-in opens, `tidegate.errors` what that
raises, `tidegate.payload` what makes an answer compact, and `tidegate.testing.contracts` tests for both.
"""

from tidegate.backends.contract import API, BackendContext, BackendPlugin
from tidegate.secret import Secret

__all__ = ["API", "BackendContext", "BackendPlugin", "Secret"]
