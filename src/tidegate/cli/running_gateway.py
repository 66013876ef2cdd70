"""Finds the process of a gateway by its state directory, and signals it: that process, and never another.

The id in the record may belong to another process by now, or mean another process where we run, such as outside of a
container. So the process is held on to first (a pidfd), and must have begun when the record says; and the directory
must be locked.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.cli.run_record import RunRecord, began_ticks, is_locked, run_record
from tidegate.errors import TidegateError
from tidegate.outbound.store_sqlite import LOCK


class NotFound(TidegateError):
    """No process is found that may be signalled. The message says why, and what to do."""


class GatewayProcess:
    """A process of `tidegate serve`, held on to by a descriptor: its id cannot be given to another meanwhile."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def hang_up(self) -> None:
        """Send SIGHUP. Raises `NotFound` if the process has ended, or belongs to another user."""
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGHUP)
        except ProcessLookupError:
            raise NotFound(f"the gateway, process {self.pid}, has just ended") from None
        except PermissionError:
            raise NotFound(f"the gateway, process {self.pid}, is another user's: run this as that user") from None

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return bool(select.select([self._descriptor], [], [], 0)[0])


def state_directory(config: Path, named: Path | None) -> Path | None:
    """Return the state directory of the gateway that was started with the file `config`.

    That is `named`, which the file says now, unless a process of this user runs with another: the file may have been
    emptied or changed since. None if there is neither.
    """
    others = (each for each in _directories_in_use() if named is None or each != named)
    return next((each for each in others if _is_started_with(config, run_record(each))), named)


@contextmanager
def found_process(directory: Path, config: Path) -> Iterator[GatewayProcess]:
    """Yield the process of `tidegate serve` that uses `directory` and was started with the file `config`.

    Raises `NotFound`.
    """
    record = run_record(directory)
    if record is None or record.state == "ended":
        raise NotFound(_nobody(directory))
    try:
        descriptor = os.pidfd_open(record.pid)
    except OSError:  # no such process
        raise NotFound(_nobody(directory)) from None
    try:
        if record.began_ticks is None or began_ticks(record.pid) != record.began_ticks or not is_locked(directory):
            raise NotFound(_nobody(directory))
        if not _is_started_with(config, record):
            running = "without a configuration file" if record.config is None else f"with {record.config}"
            raise NotFound(f"the gateway that uses {directory} was started {running}, and not with {config.absolute()}")
        yield GatewayProcess(record.pid, descriptor)
    finally:
        os.close(descriptor)


def _directories_in_use() -> Iterator[Path]:
    """Yield the directories of the lock files that processes of `tidegate serve` have open, as far as we may look."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            if b"serve" in (process / "cmdline").read_bytes().split(b"\0"):
                files = [each.readlink() for each in (process / "fd").iterdir()]
                yield from (file.parent for file in files if file.name == LOCK)


def _is_started_with(config: Path, record: RunRecord | None) -> bool:
    if record is None or record.config is None:
        return False
    return os.path.realpath(record.config) == os.path.realpath(config)  # not `Path.resolve`, which raises for a loop


def _nobody(directory: Path) -> str:
    if is_locked(directory):
        return f"what uses {directory} is no `tidegate serve` of this machine: give the address of the gateway as --url"
    return f"no gateway uses {directory} (server.state_dir): start it, or give its address as --url"
