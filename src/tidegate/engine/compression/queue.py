"""Decides what happens to jobs. Pure: times are arguments, nothing waits, and changes are returned to be stored.

queued → running → verifying → done          any of them → cancelled, through cancelling where an agent has it
   ↑        │          │                     running and verifying → failed
   └────────┴──────────┘  its agent was lost, or the engine was
"""

from collections import OrderedDict
from collections.abc import Iterable

from msgspec.structs import replace

from tidegate.engine.compression.jobs import Failure, Job, Record, State, job_of
from tidegate.engine.compression.messages import Counts, Verified
from tidegate.engine.compression.refusals import Code, Refused, shown
from tidegate.engine.pace import Pace

MAX_WAITING = 200
"""Limit on jobs in state ``queued``."""

MAX_LOST = 3
"""A job fails after this many agents died while they had it: the job itself is then the likely cause."""


class JobQueue:
    """All known jobs, in the order in which they were submitted.

    Ended jobs are remembered for `keep_s` seconds, and at most `keep_count` of them. Those that ended last are kept;
    their order does not depend on the clock.
    """

    def __init__(self, records: Iterable[Record] = (), *, keep_s: float, keep_count: int) -> None:
        self._keep_s = keep_s
        self._keep_count = keep_count
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._ended: dict[str, None] = {}
        self._paces: dict[str, Pace] = {}
        for record in sorted(records, key=lambda record: record.number):
            self._records[record.id] = record
        for record in sorted(self._records.values(), key=lambda record: record.ended_at or 0.0):
            if record.has_ended:
                self._ended[record.id] = None

    def recover(self, now: float) -> list[Record]:
        """Adjust the jobs after a restart of the engine. Return those that changed.

        Jobs that were running are queued again. Jobs that were being cancelled are cancelled.
        """
        changed = []
        for record in list(self._records.values()):
            if record.state is State.CANCELLING:
                changed.append(self._end(record, State.CANCELLED, now))
            elif record.state in {State.RUNNING, State.VERIFYING}:
                changed.append(self._requeue(record))
        return changed

    # called for clients

    def jobs(self) -> list[Job]:
        return [self._job(record) for record in self._records.values()]

    def job(self, job: str) -> Job:
        """Return a job by its id. Raises `Refused` if it is unknown."""
        return self._job(self.record(job))

    def record(self, job: str) -> Record:
        """Return the record of a job by its id. Raises `Refused` if it is unknown."""
        try:
            return self._records[job]
        except KeyError:
            raise Refused(Code.UNKNOWN_JOB, f"no job {job!r}: it never existed, or is no longer remembered") from None

    def submit(self, job: str, *, source: bytes, destination: bytes, level: int, now: float) -> Record:
        """Add a job. Raises `Refused` if too many are queued, or if another job is going to make the same file."""
        going = [record for record in self._records.values() if not record.has_ended]
        if sum(record.state is State.QUEUED for record in going) >= MAX_WAITING:
            raise Refused(
                Code.QUEUE_FULL, f"expected at most {MAX_WAITING} waiting jobs: try again when some have ended"
            )
        for record in going:
            if record.destination == destination:
                message = f"expected a new name, but job {record.id} is going to make {shown(destination)}"
                raise Refused(Code.DESTINATION_EXISTS, message)
        number = 1 + max((record.number for record in self._records.values()), default=0)
        return self._put(
            Record(id=job, number=number, source=source, destination=destination, level=level, submitted_at=now)
        )

    def forget(self, job: str) -> None:
        """Remove a submitted job that could not be stored."""
        self._records.pop(job, None)

    def cancel(self, job: str, *, now: float) -> Record:
        """Cancel a job. A job that has ended, or whose file may be published already, is not affected.

        Raises `Refused` if it is unknown.
        """
        record = self.record(job)
        if record.verified is not None:
            return record
        if record.state is State.QUEUED:
            return self._end(record, State.CANCELLED, now)
        if record.state in {State.RUNNING, State.VERIFYING}:
            return self._put(replace(record, state=State.CANCELLING))
        return record

    # called for agents

    def take(self, agent: str, *, now: float) -> Record | None:
        """Assign the job that has waited longest to `agent`. Return None if no job is queued."""
        for record in self._records.values():
            if record.state is State.QUEUED:
                self._paces[record.id] = Pace()
                return self._put(
                    replace(
                        record,
                        state=State.RUNNING,
                        agent=agent,
                        attempts=record.attempts + 1,
                        started_at=record.started_at or now,
                        counts=Counts(),
                    )
                )
        return None

    def progressed(self, job: str, counts: Counts, *, mono: float) -> bool:
        """Record the progress of a job at the monotonic time `mono`. Return whether this changed its state."""
        record = self._records[job]
        if record.state is State.RUNNING and counts.bytes_total is not None:
            # This attempt has started to read, so it has not found a finished file of an earlier attempt.
            record = replace(record, verified=None)
        verifying = counts.bytes_verified > 0 and record.state is State.RUNNING
        if verifying:
            self._paces[job] = Pace()
        self._paces[job].mark(counts.bytes_verified or counts.bytes_read, now=mono)
        self._put(replace(record, counts=counts, state=State.VERIFYING if verifying else record.state))
        return verifying

    def verified(self, message: Verified) -> Record:
        """Record that a job's file was verified, unless the job is being cancelled.

        The file may be published if `verified` of the returned record is set.
        """
        record = self._records[message.job]
        if record.state is State.CANCELLING:
            return record
        return self._put(replace(record, state=State.VERIFYING, counts=message.counts, verified=message))

    def done(self, job: str, *, now: float) -> Record:
        """Record that the file has its final name."""
        record = self._records[job]
        # If an earlier attempt made the file, this one counted nothing: use the counts of its verification.
        counts = record.counts if record.verified is None else record.verified.counts
        return self._end(replace(record, counts=counts), State.DONE, now)

    def failed(self, job: str, error: Failure | None, counts: Counts, *, now: float) -> Record:
        """Record that a job failed. Without `error`, it was cancelled, or its agent had to end."""
        record = replace(self._records[job], counts=counts)
        if record.state is State.CANCELLING:
            return self._end(record, State.CANCELLED, now)
        return self._requeue(record) if error is None else self._end(record, State.FAILED, now, error)

    def lost(self, job: str, reason: str, *, now: float) -> Record:
        """Record that the agent of a job died. The job is queued again, unless it lost `MAX_LOST` or is cancelled."""
        record = replace(self._records[job], lost=self._records[job].lost + 1)
        if record.state is State.CANCELLING:
            return self._end(record, State.CANCELLED, now)
        if record.lost < MAX_LOST:
            return self._requeue(record)
        message = f"given up after {record.lost} agents were lost with it; the last: {reason}"
        return self._end(record, State.FAILED, now, Failure(Code.AGENT_LOST, message))

    def pruned(self, now: float) -> list[str]:
        """Forget jobs that ended long ago, and the oldest ones above `keep_count`. Return their ids."""
        surplus = len(self._ended) - self._keep_count
        old = [job for n, job in enumerate(self._ended) if n < surplus or self._age_s(job, now) > self._keep_s]
        for job in old:
            del self._records[job]
            del self._ended[job]
        return old

    def _age_s(self, job: str, now: float) -> float:
        """Return how long ago an ended job ended."""
        return now - (self._records[job].ended_at or 0.0)

    def _requeue(self, record: Record) -> Record:
        self._paces.pop(record.id, None)
        return self._put(replace(record, state=State.QUEUED, agent=None, counts=Counts()))

    def _end(self, record: Record, state: State, now: float, error: Failure | None = None) -> Record:
        self._paces.pop(record.id, None)
        self._ended[record.id] = None
        return self._put(replace(record, state=state, agent=None, ended_at=now, error=error))

    def _put(self, record: Record) -> Record:
        self._records[record.id] = record
        return record

    def _job(self, record: Record) -> Job:
        return job_of(record, self._paces.get(record.id))
