import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog

from tidegate.cli import logs
from tidegate.verify.deployment import GATEWAY_READY


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is the process's, so it is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_elsewhere_than_on_a_terminal_each_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    structlog.get_logger().info("listening", url="http://h", count=3)
    text = capsys.readouterr().err
    ready = GATEWAY_READY.search(text)
    assert ready is not None, "`tidegate verify` and its tests wait for this line"
    assert ready[1] == "http://h"
    line = json.loads(text)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "listening", "url": "http://h", "count": 3, "level": "info"}


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning")
    structlog.get_logger().info("no")
    structlog.get_logger().warning("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


@pytest.mark.parametrize("level", ["debug", "info"])
def test_libraries_come_the_same_way_from_warning_on(level: logs.Level, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level)
    library = logging.getLogger("some.library")
    library.info("no")
    library.warning("at %s", "ws://h/ws?token=secret")
    library.warning("odd %d", "arguments")
    [line, odd] = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == ("at ws://h/ws?token=***", "warning", "some.library")
    assert odd["event"] == "odd %d"


def test_an_exception_is_in_the_line_without_its_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    try:
        raise ValueError("Authorization: Bearer abc123")
    except ValueError:
        logging.getLogger("x").exception("failed")
        structlog.get_logger().exception("failed")
    for line in lines(capsys):
        assert "ValueError: Authorization: Bearer ***" in line["exception"]
        assert "abc123" not in line["exception"]


def test_warnings_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "old" in lines(capsys)[0]["event"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"path": "/ws?types=a&token=abc&since=e:1"}, {"path": "/ws?types=a&token=***&since=e:1"}),
        ({"url": "http://user:pass@h:1/p@q"}, {"url": "http://***@h:1/p@q"}),
        ({"url": "http://127.0.0.1:12080/a?b=c"}, {"url": "http://127.0.0.1:12080/a?b=c"}),
        ({"header": "bearer abc.def"}, {"header": "bearer ***"}),
        ({"headers": {"Authorization": "x", "Accept": "y"}}, {"headers": {"Authorization": "***", "Accept": "y"}}),
        ({"access_token": "x"}, {"access_token": "***"}),
        ({"key": b"x", "Api-Key": b"x"}, {"key": "b'x'", "Api-Key": "***"}),
        ({"list": ["token=x", ("token=y",)]}, {"list": ["token=***", ["token=***"]]}),
        ({"error": OSError("GET /?token=abc")}, {"error": "GET /?token=***"}),
        ({"tokens": 3, "none": None, "ok": True}, {"tokens": 3, "none": None, "ok": True}),
        ({"headers": {"X-Anything": "x", "Host": "h"}}, {"headers": {"X-Anything": "***", "Host": "h"}}),
        ({"fields": [(b"cookie", b"x"), ("accept", "y")]}, {"fields": [["cookie", "***"], ["accept", "y"]]}),
    ],
)
def test_credentials_are_masked(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert logs.without_credentials(None, "info", values) == expected


def test_a_terminal_gets_readable_lines_that_cannot_steer_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(readable=True)
    structlog.get_logger().info("hello \x1b[2J", path="\x1b]0;title\x07")
    text = capsys.readouterr().err
    assert "hello \\x1b[2J" in text
    assert "\x1b]0" not in text
    assert "\x07" not in text


def test_lines_of_json_and_exceptions_cannot_steer_a_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    structlog.get_logger().info("a\x9bb", path="\u202ec")
    text = capsys.readouterr().err
    assert text.strip().isprintable()
    assert (json.loads(text)["event"], json.loads(text)["path"]) == ("a\x9bb", "\u202ec")
    logs.configure(readable=True)
    try:
        raise ValueError("of \x1b[2J")
    except ValueError:
        structlog.get_logger().exception("failed")
    text = capsys.readouterr().err
    assert "ValueError: of \\x1b[2J\n" in text
    assert "\x1b[2J" not in text


class Broken:
    def write(self, _: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise AssertionError

    def isatty(self) -> bool:
        return False


def test_a_log_that_nobody_reads_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure()
    monkeypatch.setattr(sys, "stderr", Broken())
    structlog.get_logger().info("unheard")


class Day:
    """A simulated day: its lines go through `logs.Repeated`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.repeated = logs.Repeated(now=lambda: self.now)
        self.lines: list[tuple[float, dict[str, Any]]] = []

    def say(self, level: str, event: str, **fields: Any) -> None:
        with suppress(structlog.DropEvent):
            line = self.repeated(None, level, {"level": level, "event": event, **fields})
            self.lines.append((self.now, dict(line)))


def test_a_warning_that_comes_each_second_of_a_day_is_few_lines_with_their_number() -> None:
    day = Day()
    for second in range(86_400):
        day.now = float(second)
        day.say("warning", "socket.accept() out of system resource", client_id=f"c{second}")
    assert len(day.lines) <= 3 * 24 * 60
    assert sum(1 + line.get("suppressed", 0) for _, line in day.lines) == pytest.approx(86_400, abs=60)
    assert [at for at, _ in day.lines[:4]] == [0.0, 1.0, 2.0, 60.0]


def test_lines_about_different_things_and_what_operators_do_are_all_there() -> None:
    day = Day()
    for _ in range(5):
        for backend in ("a", "b", "c", "d"):
            day.say("error", "a backend could not be closed", backend=backend)
        day.say("warning", "operator command", breaker="engine")
        day.say("info", "listening")
    assert Counter(line["event"] for _, line in day.lines) == {
        "a backend could not be closed": 4 * 3,
        "operator command": 5,
        "listening": 5,
    }


def test_what_is_remembered_is_bounded() -> None:
    day = Day()
    for number in range(5000):
        day.say("error", "broken", part=f"p{number}")
    assert len(day.lines) == 5000
    assert len(day.repeated._windows) == 1000
