from collections.abc import Iterator
from itertools import count

import pytest

from tidegate.engine.compression.jobs import Failure, Job, Record, State
from tidegate.engine.compression.messages import Counts, Identity, Verified
from tidegate.engine.compression.queue import MAX_LOST, MAX_WAITING, JobQueue
from tidegate.engine.compression.refusals import Code, Refused

NUMBERS: Iterator[int] = count()
HALF = Counts(bytes_total=200, bytes_read=100, bytes_written=40, stream_bytes=100)


def empty(*, keep_s: float = 100.0, keep_count: int = 100) -> JobQueue:
    return JobQueue(keep_s=keep_s, keep_count=keep_count)


def submitted(queue: JobQueue, job: str, *, now: float = 1.0) -> Record:
    return queue.submit(job, source=b"/s", destination=f"/d{next(NUMBERS)}".encode(), level=3, now=now)


def running(queue: JobQueue, job: str = "a") -> Record:
    submitted(queue, job)
    record = queue.take("agent-1", now=2.0)
    assert record is not None
    return record


def verified(job: str) -> Verified:
    counts = Counts(bytes_total=200, bytes_read=200, bytes_written=50, bytes_verified=250, stream_bytes=250, files=1)
    return Verified(job=job, counts=counts, sha256="00", identity=Identity(1, 2, 50))


def states(queue: JobQueue) -> list[str]:
    return [job.state.value for job in queue.jobs()]


def test_jobs_are_taken_in_their_order() -> None:
    queue = empty()
    for job in "abc":
        submitted(queue, job)
    taken = [queue.take("agent-1", now=2.0) for _ in range(4)]
    assert [record and record.id for record in taken] == ["a", "b", "c", None]


def test_a_job_from_its_beginning_to_its_end() -> None:
    queue = empty()
    submitted(queue, "a")
    assert queue.job("a").state is State.QUEUED
    record = queue.take("agent-7", now=2.0)
    assert record is not None
    assert (record.state, record.agent, record.attempts, record.started_at) == (State.RUNNING, "agent-7", 1, 2.0)
    assert queue.progressed("a", HALF, mono=10.0) is False
    assert (
        queue.progressed("a", Counts(bytes_total=200, bytes_read=150, bytes_written=60, stream_bytes=150), mono=11.0)
        is False
    )
    job = queue.job("a")
    assert (job.percent, job.rate_bytes_per_s, job.eta_s, job.ratio) == (75.0, 50, 1.0, 2.5)
    assert queue.progressed("a", Counts(bytes_total=200, bytes_read=200, bytes_verified=1, stream_bytes=250), mono=12.0)
    assert (
        queue.progressed("a", Counts(bytes_total=200, bytes_read=200, bytes_verified=126, stream_bytes=250), mono=13.0)
        is False
    )
    job = queue.job("a")
    assert (job.state, job.rate_bytes_per_s, job.eta_s) == (State.VERIFYING, 125, 1.0)
    assert queue.verified(verified("a")).verified == verified("a")
    record = queue.done("a", now=5.0)
    assert record.ended_at == 5.0
    job = queue.job("a")
    assert (job.state, job.percent, job.ratio, job.sha256, job.agent) == (State.DONE, 100.0, 5.0, "00", None)
    assert (job.submitted_at, job.started_at, job.ended_at) == tuple(f"1970-01-01T00:00:0{s}.000Z" for s in (1, 2, 5))


def test_percent_is_never_too_much() -> None:
    queue = empty()
    running(queue)
    queue.progressed("a", Counts(bytes_total=100_000, bytes_read=99_999), mono=1.0)
    assert queue.job("a").percent == 99.9
    queue.progressed("a", Counts(bytes_total=0), mono=1.0)
    assert queue.job("a").percent == 0.0
    queue.done("a", now=1.0)
    assert queue.job("a").percent == 100.0


def test_a_queued_job_is_cancelled_at_once() -> None:
    queue = empty()
    submitted(queue, "a")
    assert queue.cancel("a", now=3.0).state is State.CANCELLED
    assert queue.take("agent-1", now=4.0) is None


def test_a_running_job_is_cancelled_when_its_agent_lets_go() -> None:
    queue = empty()
    running(queue)
    assert queue.cancel("a", now=3.0).state is State.CANCELLING
    assert queue.verified(verified("a")).verified is None
    queue.progressed("a", Counts(bytes_verified=1), mono=1.0)
    assert states(queue) == ["cancelling"]
    assert queue.failed("a", None, HALF, now=4.0).state is State.CANCELLED


def test_what_may_have_its_file_or_has_ended_is_not_cancelled() -> None:
    queue = empty()
    running(queue)
    queue.verified(verified("a"))
    assert queue.cancel("a", now=3.0).state is State.VERIFYING
    queue.done("a", now=4.0)
    assert queue.cancel("a", now=5.0).state is State.DONE


def test_a_lost_job_that_may_have_its_file_can_be_cancelled_once_it_is_made_anew() -> None:
    queue = empty()
    running(queue)
    queue.verified(verified("a"))
    queue.progressed("a", verified("a").counts, mono=1.0)
    assert queue.record("a").verified is not None
    queue.lost("a", "signal 9", now=3.0)
    assert queue.cancel("a", now=4.0).state is State.QUEUED
    queue.take("agent-1", now=5.0)
    queue.progressed("a", Counts(), mono=2.0)
    assert queue.cancel("a", now=6.0).state is State.RUNNING
    queue.progressed("a", Counts(bytes_total=200), mono=2.0)
    assert queue.job("a").sha256 is None
    assert queue.cancel("a", now=7.0).state is State.CANCELLING


def test_a_failed_job_says_why() -> None:
    queue = empty()
    running(queue)
    error = Failure(Code.DISK_FULL, "no room")
    assert queue.failed("a", error, HALF, now=4.0).state is State.FAILED
    assert (queue.job("a").error, queue.job("a").percent) == (error, 50.0)


def test_a_job_whose_agent_gave_it_up_waits_again() -> None:
    queue = empty()
    running(queue)
    assert queue.failed("a", None, HALF, now=4.0).state is State.QUEUED


def test_a_lost_job_waits_again_and_fails_in_the_end() -> None:
    queue = empty()
    running(queue)
    for attempt in range(1, MAX_LOST):
        queue.progressed("a", HALF, mono=1.0)
        record = queue.lost("a", "signal 9", now=3.0)
        assert (record.state, record.agent, record.counts, record.attempts) == (State.QUEUED, None, Counts(), attempt)
        assert queue.take("agent-2", now=4.0) is not None
    record = queue.lost("a", "agent-2 was ended by signal 9", now=5.0)
    assert record.state is State.FAILED
    expected = f"given up after {MAX_LOST} agents were lost with it; the last: agent-2 was ended by signal 9"
    assert record.error == Failure(Code.AGENT_LOST, expected)


def test_a_lost_job_that_was_to_be_cancelled_is() -> None:
    queue = empty()
    running(queue)
    queue.cancel("a", now=3.0)
    assert queue.lost("a", "signal 9", now=4.0).state is State.CANCELLED


def test_what_ran_when_the_engine_died_starts_again_and_this_counts_against_nobody() -> None:
    before = empty()
    records = [running(before, job) for job in "abc"]
    records[1] = before.cancel("b", now=3.0)
    records[2] = before.verified(verified("c"))
    records.append(submitted(before, "d"))
    queue = JobQueue(reversed(records), keep_s=100.0, keep_count=100)
    assert [record.id for record in queue.recover(9.0)] == ["a", "b", "c"]
    assert states(queue) == ["queued", "cancelled", "queued", "queued"]
    assert queue.record("a").lost == 0
    again = queue.take("agent-1", now=10.0)
    assert again is not None
    assert (again.id, again.attempts, again.started_at) == ("a", 2, 2.0)


def test_what_an_earlier_attempt_published_is_told_as_it_was_verified() -> None:
    queue = empty()
    running(queue)
    record = queue.verified(verified("a"))
    queue = JobQueue([record], keep_s=100.0, keep_count=100)
    queue.recover(9.0)
    queue.take("agent-1", now=10.0)
    queue.progressed("a", Counts(), mono=1.0)
    job: Job = (queue.done("a", now=11.0), queue.job("a"))[1]
    assert (job.bytes_read, job.ratio, job.sha256) == (200, 5.0, "00")


def test_two_jobs_never_make_the_same_file() -> None:
    queue = empty()
    queue.submit("a", source=b"/s", destination=b"/d", level=3, now=1.0)
    with pytest.raises(Refused, match="job a is going to make /d") as refused:
        queue.submit("b", source=b"/s", destination=b"/d", level=3, now=1.0)
    assert refused.value.code is Code.DESTINATION_EXISTS
    queue.cancel("a", now=2.0)
    queue.submit("b", source=b"/s", destination=b"/d", level=3, now=1.0)


def test_only_so_many_may_wait() -> None:
    queue = empty()
    for number in range(MAX_WAITING):
        submitted(queue, str(number))
    with pytest.raises(Refused, match=f"at most {MAX_WAITING} waiting"):
        submitted(queue, "more")
    queue.take("agent-1", now=2.0)
    submitted(queue, "more")


def test_a_submission_can_be_taken_back() -> None:
    queue = empty()
    submitted(queue, "a")
    queue.forget("a")
    assert queue.jobs() == []


def test_unknown_jobs_are_refused() -> None:
    with pytest.raises(Refused, match="no job 'x'") as refused:
        empty().cancel("x", now=1.0)
    assert refused.value.code is Code.UNKNOWN_JOB


def test_ended_jobs_are_remembered_for_so_long() -> None:
    queue = empty(keep_s=10.0)
    for job in "ab":
        submitted(queue, job)
    queue.cancel("a", now=5.0)
    assert queue.pruned(15.0) == []
    assert queue.pruned(15.1) == ["a"]
    assert [job.id for job in queue.jobs()] == ["b"]


def test_so_many_ended_jobs_are_remembered() -> None:
    queue = empty(keep_count=2)
    for job in "abcd":
        submitted(queue, job)
    for number, job in enumerate("dac"):
        queue.cancel(job, now=5.0 + number)
    assert queue.pruned(9.0) == ["d"]
    assert [job.id for job in queue.jobs()] == ["a", "b", "c"]


def test_what_ended_last_is_remembered_though_the_clock_went_back() -> None:
    queue = empty(keep_count=1)
    records = [submitted(queue, job) for job in "abc"]
    records[1] = queue.cancel("b", now=90.0)
    queue = JobQueue(records, keep_s=100.0, keep_count=1)
    queue.cancel("a", now=50.0)
    assert queue.pruned(51.0) == ["b"]
    queue.cancel("c", now=20.0)
    assert queue.pruned(21.0) == ["a"]
    assert states(queue) == ["cancelled"]
