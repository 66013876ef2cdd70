"""What the engine and its agents say to each other: one JSON object per line, over the agent's standard streams.

``Run`` → ``Beat``… → ``Verified`` → ``Publish`` → ``Done``; or ``Failed`` instead of anything after ``Run``.
"""

import msgspec

from tidegate.engine.compression.refusals import Code


class Identity(msgspec.Struct, frozen=True):
    """What tells a finished file from any other that may have its name later."""

    device: int
    inode: int
    size_bytes: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is. Bytes read are those of files, without tar's own; bytes verified are of the whole stream."""

    bytes_total: int | None = None
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_verified: int = 0
    stream_bytes: int = 0
    files: int = 0
    skipped: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Carry out a job. Paths are resolved ones; `published` is the file that an earlier attempt may have left."""

    job: str
    attempt: int
    source: bytes
    destination: bytes
    level: int
    roots: list[bytes]
    published: Identity | None = None


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Give the job up, unless it may be published already."""

    job: str


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    """The verified file may get its final name."""

    job: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The agent has started."""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The agent lives; `counts` are those of its job, if it has one."""

    job: str | None = None
    counts: Counts = Counts()


class Verified(msgspec.Struct, frozen=True, kw_only=True, tag="verified"):
    """The file is on disk under a temporary name, and holds what was read: `sha256` is of the stream."""

    job: str
    counts: Counts
    sha256: str
    identity: Identity


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The file has its final name, on disk."""

    job: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The job came to nothing after `counts`, and nothing is left of it. Without `code` it was cancelled."""

    job: str
    counts: Counts = Counts()
    code: Code | None = None
    message: str = ""


ToAgent = Run | Cancel | Publish
FromAgent = Ready | Beat | Verified | Done | Failed


def encoded(message: ToAgent | FromAgent) -> bytes:
    return msgspec.json.encode(message) + b"\n"
