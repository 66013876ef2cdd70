"""The walk itself: what it keeps of a value that is partly wrong, and how it names places and expectations."""

from pathlib import Path

import pytest

from tidegate.config.model import Config, LimitsConfig
from tidegate.config.reader import UNUSABLE, Mistake, Reader, dotted
from tidegate.config.section import Section


def reader(findings: tuple[Mistake, ...] = ()) -> Reader:
    def rules(section: Section) -> tuple[Mistake, ...]:
        return findings if isinstance(section, LimitsConfig) else ()

    return Reader(directory=Path(), rules=rules)


def test_what_is_good_is_kept() -> None:
    walk = reader()
    config = walk.read(
        Config, {"limits": {"patterns": "x", "messages_burst": 7}, "backends": {"a": {"url": "http://h"}, "b": 1}}
    )
    assert config.limits == LimitsConfig(messages_burst=7)
    assert list(config.backends) == ["a"]
    assert [problem.path for problem in walk.problems] == ["limits.patterns", "backends.b"]


def test_lists_lose_what_was_refused() -> None:
    walk = reader()
    assert walk.read(tuple[int, ...], [1, "x", 3], ("list",)) == (1, 3)
    assert [problem.path for problem in walk.problems] == ["list[1]"]


def test_a_table_without_a_required_key_is_unusable() -> None:
    assert reader().read(Config, {"sources": {"s": {}}}).sources == {}
    assert reader().read(Config, []) is UNUSABLE


def test_rules_are_asked_for_good_tables_only() -> None:
    finding = Mistake(("patterns",), "fewer", "more")
    walk = reader((finding,))
    walk.read(Config, {"limits": {"patterns": 5}})
    assert list(map(str, walk.problems)) == ["limits.patterns: expected fewer, got more"]
    walk = reader((finding,))
    walk.read(Config, {"limits": {"patterns": 0}})
    assert len(walk.problems) == 1


def test_clean_is_what_no_problem_touches() -> None:
    walk = reader()
    walk.refuse(Mistake(("server", "port"), "a", "b"))
    assert not walk.is_clean("server")
    assert not walk.is_clean("server", "port")
    assert not walk.is_clean("server", "port", "x")
    assert walk.is_clean("server", "host")
    assert walk.is_clean("auth")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("sources", "system.status", "interval_s"), 'sources."system.status".interval_s'),
        (("auth", "tokens", 0, "roles", 1), "auth.tokens[0].roles[1]"),
        (("a b", ""), '"a b".""'),
        ((), "the configuration"),
    ],
)
def test_paths_are_written_as_in_toml(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text
