"""`docs/vectors`: every client that we have comes back to where it was, and loses nothing."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from resuming import FirstRule, Resuming
from vectors import DIRECTORY, Json, NewClient, Query, run, vectors

from tidegate.client.items import decode_message
from tidegate.client.position import ClientPosition, Position
from tidegate.verify.frames import read_frame
from tidegate.verify.stream_position import StreamPosition

ROOT = Path(__file__).parents[1]
VECTORS = pytest.mark.parametrize("vector", vectors())


class PythonClient:
    def __init__(self, query: Query) -> None:
        since = None if query.since is None else Position.parse(query.since)
        self._progress = ClientPosition(query.types, since=since)

    def take(self, message: bytes) -> None:
        self._progress.take(decode_message(message))

    def position(self) -> str | None:
        return None if self._progress.complete is None else str(self._progress.complete)

    def next(self) -> tuple[Query, Iterable[str]]:
        opening = self._progress.opening()
        return Query(opening.types, None if opening.since is None else str(opening.since)), opening.later


class Verify:
    def __init__(self, query: Query) -> None:
        self._position = StreamPosition(query.types, query.since)

    def take(self, message: bytes) -> None:
        self._position.take(read_frame(message))

    def position(self) -> str | None:
        return self._position.position

    def next(self) -> tuple[Query, Iterable[str]]:
        types, since, later = self._position.opening
        return Query(types, since), later


class ClientOfTests:
    """That of the delivery model, of the race and of the simulation."""

    def __init__(self, query: Query) -> None:
        self._resuming = Resuming(query.types, query.since)

    def take(self, message: bytes) -> None:
        self._resuming.tell(json.loads(message))

    def position(self) -> str | None:
        return self._resuming.position

    def next(self) -> tuple[Query, Iterable[str]]:
        return Query(*self._resuming.opening), self._resuming.later


@pytest.mark.parametrize("client", [PythonClient, Verify, ClientOfTests])
@VECTORS
def test_a_client_comes_back_to_where_it_was(vector: Json, client: NewClient) -> None:
    run(vector, client)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("node") is None, reason="no Node: see tools/install-check-tools")
def test_the_javascript_client_came_back_to_where_it_was() -> None:
    command = ["node", "--test", "--test-reporter=tap", str(ROOT / "tests/web/client/position.test.mjs")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    passed = set(re.findall(r"^ *ok \d+ - vector (\S+\.json)", ran.stdout, re.MULTILINE))
    assert passed == {file.name for file in DIRECTORY.iterdir()}, ran.stdout


@VECTORS
def test_where_a_vector_says_so_the_first_rule_loses(vector: Json) -> None:
    rule = FirstRule(*Query.of(vector["url"]))
    for step in vector["steps"]:
        if "receive" in step:
            rule.tell(step["receive"])
        if "loses" in step.get("cut", {}):
            assert rule.opening == Query.of(step["cut"]["loses"]) != Query.of(step["cut"]["url"])
