from tidegate.verify.faultproxy.calls import KEPT_CALLS, CallLog, CallRecord, How


def begin(log: CallLog, at: float = 0.0) -> CallRecord:
    return log.begin(http_method="POST", path="/", methods=("m",), mono=at, wall=1000 + at)


def test_a_call_from_its_coming_to_its_end() -> None:
    log = CallLog()
    record = begin(log, 3.0)
    assert (record.number, record.came_mono, record.came_wall, record.ended_mono, record.how) == (
        1,
        3,
        1003,
        None,
        None,
    )
    log.end(record, how=How.RESET, mono=4.5)
    assert (record.ended_mono, record.how) == (4.5, How.RESET)
    assert log.records == [record]


def test_counts() -> None:
    log = CallLog()
    first, second = begin(log), begin(log)
    assert (log.total, log.concurrent, log.max_concurrent) == (2, 2, 2)
    log.end(first, how=How.ANSWERED, mono=1)
    third = begin(log)
    assert (log.total, log.concurrent, log.max_concurrent) == (3, 2, 2)
    log.clear()
    assert (log.total, log.concurrent, log.max_concurrent, len(log)) == (0, 2, 2, 0)
    for record in (second, third):
        log.end(record, how=How.ANSWERED, mono=1)
    assert (log.concurrent, begin(log).number) == (0, 4)


def test_the_newest_calls_are_kept() -> None:
    log = CallLog()
    for _ in range(KEPT_CALLS + 5):
        log.end(begin(log), how=How.ANSWERED, mono=0)
    assert (log.total, len(log), next(iter(log)).number) == (KEPT_CALLS + 5, KEPT_CALLS, 6)
