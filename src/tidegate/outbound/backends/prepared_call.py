"""One exchange that is ready to be made: its credentials, and what is known of it when it has ended.

The same for every kind of connection. The only place where messages of a backend are freed of the secrets they repeat.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tidegate.errors import BackendError
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.http_client import Attempt
from tidegate.ports import Call

Answers = Sequence[msgspec.Raw | BackendError]


class PreparedCall:
    """What `prepare` of a backend returns: makes one exchange, and then says whether a connection stood."""

    def __init__(
        self,
        ask: Callable[[Sequence[Call], Credentials, Attempt], Awaitable[Answers]],
        credentials: Credentials,
    ) -> None:
        self._ask = ask
        self._credentials = credentials
        self._attempt = Attempt()

    async def __call__(self, calls: Sequence[Call]) -> Answers:
        try:
            answers = await self._ask(calls, self._credentials, self._attempt)
        except BackendError as error:
            self._scrub(error)
            raise
        for answer in answers:
            if isinstance(answer, BackendError):
                self._scrub(answer)
        return answers

    @property
    def connected(self) -> bool:
        return self._attempt.connected

    @property
    def secret(self) -> bytes | None:
        return self._credentials.key or None

    def scrubbed(self, text: str) -> str:
        return self._credentials.scrubbed(text)

    def _scrub(self, error: BackendError) -> None:
        error.args = (self.scrubbed(str(error)),)
