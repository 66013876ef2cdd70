"""The messages between the engine and its agents: one JSON object per line, over the agent's standard streams.

``Run`` → ``Beat``… → ``Verified`` → ``Publish`` → ``Done``. After ``Run``, the agent may send ``Failed`` at any point.
"""

import msgspec

from tidegate.engine.compression.refusals import Code


class Identity(msgspec.Struct, frozen=True):
    """Identifies a finished file, to tell it from another file that may get the same name later."""

    device: int
    inode: int
    size_bytes: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a job.

    `bytes_total` and `bytes_read` count file content, without tar headers. `stream_bytes` and `bytes_verified` count
    the whole stream.
    """

    bytes_total: int | None = None
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_verified: int = 0
    stream_bytes: int = 0
    files: int = 0
    skipped: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Execute a job. Paths are resolved. `published` is the final file that an earlier attempt may have made."""

    job: str
    attempt: int
    source: bytes
    destination: bytes
    level: int
    roots: list[bytes]
    published: Identity | None = None


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Cancel the job, unless its file may be published already."""

    job: str


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    """The verified file may get its final name."""

    job: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The agent has started."""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The agent is alive. `counts` are those of its job, if it has one."""

    job: str | None = None
    counts: Counts = Counts()


class Verified(msgspec.Struct, frozen=True, kw_only=True, tag="verified"):
    """The file is on disk under a temporary name, and was verified. `sha256` is the hash of the stream."""

    job: str
    counts: Counts
    sha256: str
    identity: Identity


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The file has its final name, and this is on disk too."""

    job: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The job has failed, or was cancelled if there is no `code`. Its unfinished file has been removed."""

    job: str
    counts: Counts = Counts()
    code: Code | None = None
    message: str = ""


ToAgent = Run | Cancel | Publish
FromAgent = Ready | Beat | Verified | Done | Failed


def encoded(message: ToAgent | FromAgent) -> bytes:
    return msgspec.json.encode(message) + b"\n"
