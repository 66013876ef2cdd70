"""``python -m tidegate.engine.compression.agent``: a worker process. Only the engine starts it.

One thread does the work. Another reads messages of the engine and reports progress, even while the work hangs in the
kernel. The process ends when its standard input is closed, and is killed if the engine is killed.
"""

import contextlib
import os
import queue
import select
import signal
import sys
import threading
import traceback
from typing import NamedTuple

import msgspec

from tidegate.engine.compression.messages import (
    Beat,
    Cancel,
    Done,
    Failed,
    FromAgent,
    Publish,
    Ready,
    Run,
    ToAgent,
    Verified,
    encoded,
)
from tidegate.engine.compression.refusals import Code, Refused
from tidegate.engine.compression.task import Cancelled, Progress, carry_out
from tidegate.engine.parent import be_killed_with_parent

STDIN, STDOUT = 0, 1
BUSY_BEAT_MS = 200
IDLE_BEAT_MS = 1000
NICENESS = 5
"""Lowers the priority: jobs are not urgent, so the gateway and all other programs go first."""

_DECODER: msgspec.json.Decoder[ToAgent] = msgspec.json.Decoder(ToAgent)


class _Task(NamedTuple):
    order: Run
    progress: Progress
    verdicts: "queue.SimpleQueue[bool]"
    """Receives one answer of the engine: whether the verified file may be published."""


class Worker:
    """The two threads and their shared state.

    The reading thread sets `_current` when a job comes, and the working thread clears it when the job has ended. The
    engine sends no other job in between.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._current: _Task | None = None
        self._sending = threading.Lock()

    def run(self) -> None:
        """Execute jobs until standard input is closed."""
        threading.Thread(target=self._listen, name="engine", daemon=True).start()
        self._send(Ready())
        while (task := self._tasks.get()) is not None:
            end = self._carried_out(task)
            self._current = None
            self._send(end)

    def _carried_out(self, task: _Task) -> Done | Failed:
        job = task.order.job

        def may_publish(verified: Verified) -> bool:
            self._send(verified)
            return task.verdicts.get()

        try:
            carry_out(task.order, task.progress, may_publish)
        except Cancelled:
            return Failed(job=job, counts=task.progress.counts)
        except Refused as refused:
            return Failed(job=job, counts=task.progress.counts, code=refused.code, message=str(refused))
        except Exception as error:  # noqa: BLE001 - no failure of a job may end the agent
            traceback.print_exc()
            message = str(Refused(Code.INTERNAL, f"{type(error).__name__}: {error}"))
            return Failed(job=job, counts=task.progress.counts, code=Code.INTERNAL, message=message)
        return Done(job)

    def _listen(self) -> None:
        """Read messages until standard input is closed. Send a beat whenever none came for a while."""
        poll = select.poll()
        poll.register(STDIN, select.POLLIN)
        rest = b""
        while True:
            if poll.poll(BUSY_BEAT_MS if self._current else IDLE_BEAT_MS):
                data = os.read(STDIN, 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._heard(_DECODER.decode(line))
            else:
                self._beat()
        self._give_up(self._current)
        self._tasks.put(None)

    def _heard(self, message: ToAgent) -> None:
        task = self._current
        match message:
            case Run():
                self._current = _Task(message, Progress(), queue.SimpleQueue())
                self._tasks.put(self._current)
            case Publish(job) if task is not None and task.order.job == job:
                task.verdicts.put(True)
            case Cancel(job) if task is not None and task.order.job == job:
                self._give_up(task)

    def _beat(self) -> None:
        task = self._current
        self._send(Beat() if task is None else Beat(task.order.job, task.progress.counts))

    def _give_up(self, task: _Task | None) -> None:
        if task is not None:
            task.progress.cancelled = True
            task.verdicts.put(False)

    def _send(self, message: FromAgent) -> None:
        left = encoded(message)
        # A broken pipe means that the engine is gone. Then standard input is closed too, which ends the process.
        with self._sending, contextlib.suppress(BrokenPipeError):
            while left:
                left = left[os.write(STDOUT, left) :]


def main() -> int:
    be_killed_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the engine stops its agents
    os.nice(NICENESS)
    Worker().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
