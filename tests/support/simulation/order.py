"""What the order of events alone must not say, whatever the bus does: read as a client that hears everything would.

For worlds with an unsteady bus, where what is told comes late and `truth` would be too exact. Nothing may be called
fresh behind a breaker that is not closed, no move of a breaker may be missing, and what the gateway knows has to be
told before long: also the newest answer of each backend, to those who listen and to those who come later.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from simulation.clients import DECODER, Message
from simulation.record import WITNESS, Record
from simulation.sources import Items
from simulation.truth import Truth
from tidegate.runtime.supervisor import Supervisor

LOOK_S = 1.0
"""How often what was told is compared with what the gateway knows."""

PATIENCE_S = 10.0
"""How long that may differ: a bus may refuse several times in a row."""


class Order:
    """The judge. `breakers` says behind which breaker each source stands."""

    def __init__(self, record: Record, breakers: Mapping[str, str]) -> None:
        self._record = record
        self._breakers = breakers
        self._states: dict[str, str] = {}
        self._stale: dict[str, bool] = {}
        self._sources = Truth(record).sources
        self._held: dict[str, dict[str, Message]] = {event_type: {} for event_type in breakers}
        self._seq = 0
        self._differ_since: dict[str, float] = {}

    def heard(self, client: str, at: float, message: Message) -> None:
        """The witness heard something; what others heard is not judged."""
        if client != WITNESS or message.seq is None:
            return
        if not message.snapshot:
            if message.seq <= self._seq:
                self._record.fail(at, f"position {message.seq} after {self._seq}")
            self._seq = message.seq
        if message.type == "circuit_breaker.state":
            self._moved(at, message)
        elif message.type == "source.freshness":
            told = msgspec.json.decode(message.data)
            self._check_fresh(at, told["type"], stale=told["stale"])
        elif message.type in self._breakers:
            self._check_fresh(at, message.type, stale=bool(message.stale))
            self._stale[message.type] = bool(message.stale)
            if message.gone:
                self._held[message.type].pop(message.key or "", None)
            else:
                self._held[message.type][message.key or ""] = message

    def compare(self, now: float, supervisor: Supervisor, snapshots: Callable[[str], Sequence[bytes]]) -> None:
        """Call every `LOOK_S`: what the gateway knows for `PATIENCE_S` was told. `snapshots` are those of a type."""
        known = {view.name: view.state.value for view in supervisor.breakers()}
        told: dict[str, object] = dict(self._states)
        truth: dict[str, object] = dict(known)
        for source in supervisor.sources():
            if source.type in self._stale:
                truth[source.type], told[source.type] = source.stale, self._stale[source.type]
        for event_type, answer in self._answers():
            given = {message.key or "": message for message in map(DECODER.decode, snapshots(event_type))}
            for who, held in (("the witness", self._held[event_type]), ("a new client", given)):
                name = f"{event_type}, to {who}"
                truth[name] = {key: None if key in held and held[key].expired else data for key, data in answer.items()}
                told[name] = {key: None if message.expired else bytes(message.data) for key, message in held.items()}
        for name, value in truth.items():
            if told.get(name) == value:
                self._differ_since.pop(name, None)
            elif now - self._differ_since.setdefault(name, now) > PATIENCE_S:
                self._record.fail(now, f"{name}: {told.get(name)!r} was told, and it is {value!r} for {PATIENCE_S:g} s")
                del self._differ_since[name]

    def _answers(self) -> Iterator[tuple[str, Items]]:
        """The newest good answer of each source."""
        for event_type, source in self._sources.items():
            method = source.settings.method
            for exchange in reversed(self._record.taps[source.settings.backend].exchanges):
                if method in exchange.methods and exchange.results is not None:
                    result = source.mapped(exchange.results[exchange.methods.index(method)])
                    if isinstance(result, bytes):
                        yield event_type, source.split(result)
                        break

    def _moved(self, at: float, message: Message) -> None:
        move = msgspec.json.decode(message.data)
        name, before = move["breaker"], self._states.get(move["breaker"])
        if not message.snapshot and before is not None and move["from"] != before:
            self._record.fail(at, f"{name}: moved from {move['from']}, and {before} was told")
        self._states[name] = move["state"]

    def _check_fresh(self, at: float, event_type: str, *, stale: bool) -> None:
        state = self._states.get(self._breakers[event_type], "closed")
        if not stale and state != "closed":
            self._record.fail(at, f"{event_type}: said fresh while its breaker is {state}")
