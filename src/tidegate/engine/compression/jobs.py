"""Compression jobs: `Record` is how a job is stored, `Job` how callers see it."""

import enum
from datetime import UTC, datetime

import msgspec

from tidegate.engine.compression.messages import Counts, Verified
from tidegate.engine.compression.refusals import Code, shown
from tidegate.engine.pace import Pace


class State(enum.StrEnum):
    """The state of a job. ``cancelling``: it was running, and its agent has not stopped yet."""

    QUEUED = "queued"
    RUNNING = "running"
    VERIFYING = "verifying"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed."""

    code: Code
    message: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is stored. Paths are resolved, times are Unix time.

    `attempts` is how often an agent has started it, `lost` how many agents died while they had it. `verified` is set
    before its file may get its final name.
    """

    id: str
    number: int
    source: bytes
    destination: bytes
    level: int
    submitted_at: float
    state: State = State.QUEUED
    attempts: int = 0
    lost: int = 0
    agent: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    counts: Counts = Counts()
    verified: Verified | None = None
    error: Failure | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One compression job. The most important fields come first.

    In paths, control characters and bytes that are not UTF-8 are shown as ``\\xNN``. `bytes_total` and `bytes_read`
    count the content of files; `percent` is their ratio. `rate_bytes_per_s` and `eta_s` are those of the current state,
    reading or verifying. `ratio` is the size of the stream divided by the size of the result. `sha256` is the hash of
    the stream, which is the output of ``zstd -dc`` for the result. `skipped` counts sockets, pipes and devices, which
    are left out of archives. Times are RFC 3339.
    """

    id: str
    percent: float
    state: State
    error: Failure | None
    rate_bytes_per_s: int | None
    eta_s: float | None
    path: str
    destination: str
    level: int
    ratio: float | None
    agent: str | None
    attempts: int
    bytes_total: int | None
    bytes_read: int
    bytes_written: int
    bytes_verified: int
    files: int
    skipped: int
    sha256: str | None
    submitted_at: str
    started_at: str | None
    ended_at: str | None


def job_of(record: Record, pace: Pace | None) -> Job:
    """Return `record` as callers see it. `pace` is its current speed, if it is running."""
    counts = record.counts
    return Job(
        id=record.id,
        percent=_percent(record),
        state=record.state,
        error=record.error,
        rate_bytes_per_s=None if pace is None or pace.rate is None else round(pace.rate),
        eta_s=None if pace is None else _eta_s(record, pace),
        path=shown(record.source),
        destination=shown(record.destination),
        level=record.level,
        ratio=round(counts.stream_bytes / counts.bytes_written, 3) if counts.bytes_written else None,
        agent=record.agent,
        attempts=record.attempts,
        bytes_total=counts.bytes_total,
        bytes_read=counts.bytes_read,
        bytes_written=counts.bytes_written,
        bytes_verified=counts.bytes_verified,
        files=counts.files,
        skipped=counts.skipped,
        sha256=None if record.verified is None else record.verified.sha256,
        submitted_at=_rfc3339(record.submitted_at),
        started_at=None if record.started_at is None else _rfc3339(record.started_at),
        ended_at=None if record.ended_at is None else _rfc3339(record.ended_at),
    )


def _percent(record: Record) -> float:
    """Return the progress in percent, rounded down, so that 100.0 means that everything has been read.

    An empty source has 100.0 only when the job is done.
    """
    counts = record.counts
    if not counts.bytes_total:
        return 100.0 if record.state is State.DONE else 0.0
    return 1000 * counts.bytes_read // counts.bytes_total / 10


def _eta_s(record: Record, pace: Pace) -> float | None:
    counts = record.counts
    target = counts.stream_bytes if record.state is State.VERIFYING else counts.bytes_total
    eta_s = None if target is None else pace.eta_s(target)
    return None if eta_s is None else round(eta_s, 1)


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
