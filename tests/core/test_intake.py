import random

from tidegate.core.intake import FIELD_BYTES, HELD_BYTES, READ_BYTES, Intake

BODY = 1 << 20


def request(intake: Intake, head: int = 200, fields: int = 3) -> None:
    """A request's head comes whole."""
    intake.bytes_received(head)
    intake.request_begun()
    intake.head_received(head, fields)


def test_what_belongs_to_nothing_is_bounded() -> None:
    intake = Intake(BODY)
    intake.bytes_received(HELD_BYTES)
    assert not intake.is_over
    intake.bytes_received(1)
    assert intake.is_over


def test_a_request_that_was_answered_does_not_count() -> None:
    intake = Intake(BODY)
    for _ in range(10_000):
        request(intake)
        intake.request_answered()
    assert intake.held == 0


def test_requests_that_wait_count_with_their_fields() -> None:
    intake = Intake(BODY)
    request(intake, 1000, 10)
    request(intake, 500, 0)
    assert intake.held == 1500 + 10 * FIELD_BYTES
    intake.request_answered()
    assert intake.held == 500
    while not intake.is_over:
        request(intake, 4, 1000)
    assert intake.held <= HELD_BYTES + 1000 * FIELD_BYTES + 4


def test_a_body_that_some_route_may_want_does_not_count_however_it_comes() -> None:
    for piece in (1 << 10, 1 << 16, BODY):
        intake = Intake(BODY)
        request(intake, 0, 0)
        for _ in range(BODY // piece):
            intake.bytes_received(piece)
            intake.body_received(piece)
        assert intake.held == 0


def test_a_body_in_small_chunks_does_not_count() -> None:
    intake = Intake(64 * BODY)
    request(intake, 0, 0)
    for _ in range(64 * BODY // 64):
        intake.bytes_received(4 + 64 + 2)
        intake.body_received(64)
    assert not intake.is_over


def test_a_body_that_no_route_wants_counts() -> None:
    intake = Intake(BODY)
    request(intake, 0, 0)
    came = 0
    while not intake.is_over:
        intake.bytes_received(16384)
        intake.body_received(16384)
        came += 16384
    assert BODY + READ_BYTES < came <= BODY + READ_BYTES + HELD_BYTES + 16384


def test_what_comes_behind_a_body_counts() -> None:
    """Trailers, extensions of chunks, and the body of a request that was answered without it."""
    intake = Intake(BODY)
    request(intake)
    intake.request_answered()
    came = 0
    while not intake.is_over:
        intake.bytes_received(100)
        came += 100
    assert came <= HELD_BYTES + 100


def test_whatever_comes_no_more_is_held_than_the_bound_and_one_step() -> None:
    rng = random.Random(3)
    for _ in range(300):
        intake, in_message, step = Intake(BODY), False, 16384
        while not intake.is_over:
            intake.bytes_received(rng.randrange(step))
            match rng.randrange(4):
                case 0 if not in_message:
                    intake.request_begun()
                    intake.head_received(rng.randrange(step), rng.randrange(100))
                    in_message = True
                case 1 if in_message:
                    intake.body_received(rng.randrange(step))
                case 2:
                    in_message = False
        assert intake.held <= HELD_BYTES + step + 100 * FIELD_BYTES
