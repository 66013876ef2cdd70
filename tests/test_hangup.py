import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate import __main__ as entry
from tidegate.hangup import HANGUPS, Hangups


@pytest.fixture(autouse=True)
def _handler_of_the_tests() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def test_each_is_told_while_somebody_listens() -> None:
    hangups, told = Hangups(), []
    hangups.catch()
    with hangups.told_to(lambda: told.append(1)):
        assert told == []
        hang_up()
        hang_up()
        assert told == [1, 1]


def test_those_that_came_before_are_told_once_to_the_next_listener() -> None:
    hangups, told = Hangups(), []
    hangups.catch()
    hang_up()
    hang_up()
    with hangups.told_to(lambda: told.append("first")):
        assert told == ["first"]
    with hangups.told_to(lambda: told.append("second")):
        pass
    assert told == ["first"]
    hang_up()
    with hangups.told_to(lambda: told.append("third")):
        pass
    assert told == ["first", "third"]


def test_the_handler_is_set_before_anything_slow_is_imported() -> None:
    """In the entry point, what comes before it takes no time: everything else is imported after that."""
    program = "import sys; import tidegate.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-P", "-c", "import sys, signal, contextlib, collections.abc; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    extra = {name for name in {*done.stdout.split()} - {*bare.stdout.split()} if not name.startswith("__editable__")}
    assert extra == {"tidegate", "tidegate.__main__", "tidegate.hangup", "tidegate.standard_streams"}
    [main] = [
        each
        for each in ast.parse(Path(entry.__file__).read_text(encoding="utf-8")).body
        if isinstance(each, ast.FunctionDef)
    ]
    assert "HANGUPS.catch()" in ast.unparse(main.body[1])  # after the docstring


@pytest.mark.parametrize("command", ["watch", "engine", "doctor", "demo"])
def test_other_commands_end_as_any_program_does(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    caught = []
    monkeypatch.setattr(HANGUPS, "catch", lambda: caught.append(command))
    monkeypatch.setattr("tidegate.standard_streams.open_missing", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(sys, "argv", ["tidegate", command])
    with pytest.raises(KeyboardInterrupt):
        entry.main()
    assert caught == []
    monkeypatch.setattr(sys, "argv", ["tidegate", "serve"])
    with pytest.raises(KeyboardInterrupt):
        entry.main()
    assert caught == [command]
