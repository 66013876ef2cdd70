"""The authenticator that is in use. A reload replaces it, while everybody who checks tokens keeps the same object."""

from tidegate.core.access.grant import Grant
from tidegate.ports import Authenticator, Revised

Revision = tuple[int, int]
"""Which tokens are accepted: how often the authenticator was replaced, and its own `Revised.revision`.

A grant that was given in another revision may be out of date.
"""


class CurrentAuthenticator:
    """Implements `tidegate.ports.Authenticator` with another one, which `replace` exchanges at once for everybody."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._replaced = 0
        self._use(authenticator)

    def verify(self, token: str) -> Grant:
        """See `tidegate.ports.Authenticator`."""
        return self._authenticator.verify(token)

    def replace(self, authenticator: Authenticator) -> None:
        """Check tokens with `authenticator` from now on."""
        self._replaced += 1
        self._use(authenticator)

    @property
    def revision(self) -> Revision:
        """Changes whenever other tokens are accepted, or the same ones for something else."""
        return self._replaced, 0 if self._revised is None else self._revised.revision

    def _use(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        supplied: object = authenticator
        self._revised = supplied if isinstance(supplied, Revised) else None
