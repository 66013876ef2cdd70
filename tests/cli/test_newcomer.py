"""What a newcomer does: ``serve`` without a configuration, ``engine submit``, and looking on. All of it real."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import zstandard
from browser import chromium, needs_browser, said
from programs import Program, tidegate
from programs import until as until_within

from tidegate.cli.engine_process import free_port
from tidegate.cli.environment import ENGINE_URL, URL

pytestmark = pytest.mark.real

PATIENCE_S = 120.0
"""Agents let everybody else go first."""


T = TypeVar("T")


class Home(NamedTuple):
    """A gateway that was started in `folder`, and the engine beside it."""

    folder: Path
    gateway: Program
    environ: dict[str, str]

    def run(self, *arguments: str) -> list[str]:
        """The lines of a command that ends well."""
        with tidegate(*arguments, folder=self.folder, **self.environ) as command:
            assert command.wait() == 0, command.err
            return command.out

    def submitted(self, name: str) -> str:
        """The id of a job that compresses `name`, so thoroughly that one can watch it."""
        [line] = self.run("engine", "submit", f"./{name}", "--level", "19", "--json")
        return str(json.loads(line)["id"])

    @contextmanager
    def watched(self) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        """What a watcher of jobs and agents has heard so far."""
        types = "compression.*,agent.*"
        with tidegate("watch", "--types", types, folder=self.folder, **self.environ) as watcher:
            yield lambda: [json.loads(line) for line in list(watcher.out)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    port, engine_port = str(free_port(preferred=0)), str(free_port(preferred=0))
    with tidegate("serve", "--port", port, "--engine-port", engine_port, folder=folder) as gateway:
        assert gateway.url
        engine_url = until(lambda: next((line[ENGINE_URL] for line in gateway.log if ENGINE_URL in line), None))
        assert engine_url == f"http://127.0.0.1:{engine_port}/rpc"
        yield Home(folder, gateway, {URL: gateway.url, ENGINE_URL: engine_url})


def until(condition: Callable[[], T | None], *, what: object = "") -> T:
    return until_within(condition, what=what, patience_s=PATIENCE_S)


def text(size: int) -> str:
    """Such as takes its time."""
    return os.urandom(size // 2).hex()


def of_job(events: list[dict[str, Any]], job: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == "compression.update" and event["key"] == job]


def reached(events: list[dict[str, Any]], job: str, state: str) -> dict[str, Any] | None:
    """The newest that was heard of `job`, if it is fresh and of that state."""
    last = of_job(events, job)[-1:]
    return last[0]["data"] if last and not last[0]["stale"] and last[0]["data"]["state"] == state else None


def test_a_folder_is_compressed_before_everybody_s_eyes(home: Home) -> None:
    top = home.folder / "some-folder"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "text").write_text(text(8_000_000))
    for number in range(300):
        (top / "sub" / str(number)).write_text(text(1_000))
    (top / "link").symlink_to("sub/text")
    with home.watched() as heard:
        job = home.submitted("some-folder")
        until(lambda: reached(heard(), job, "done"), what=home.gateway.err)
        agents = [event["data"] for event in heard() if event["type"] == "agent.status"]
    seen = [event["data"] for event in of_job(heard(), job)]
    percents = [data["percent"] for data in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100.0
    assert len({percent for percent in percents if 0 < percent < 100}) >= 2
    assert list(dict.fromkeys(data["state"] for data in seen))[-1] == "done"
    assert job in {agent["job"] for agent in agents if agent["state"] == "busy"}
    archive = home.folder / "some-folder.tar.zst"
    subprocess.run(["zstd", "--test", "--quiet", archive], check=True)
    subprocess.run(["tar", "--zstd", "--compare", "--file", archive, "--directory", home.folder], check=True)


def test_a_job_survives_its_agent_and_its_engine_and_the_stream_says_so(home: Home) -> None:
    source = home.folder / "file"
    source.write_text(text(6_000_000))
    with home.watched() as heard:
        job = home.submitted("file")
        first = until(lambda: _under_way(heard(), job), what=home.gateway.err)
        os.kill(_process(heard(), first["agent"]), signal.SIGKILL)
        until(lambda: [event for event in heard() if _tells(event, first["agent"], "was ended by signal 9")])
        second = until(lambda: _under_way(heard(), job), what=home.gateway.err)
        assert second["attempts"] == 2
        os.kill(until(lambda: home.gateway.engine), signal.SIGKILL)
        until(lambda: [event for event in of_job(heard(), job) if event["stale"]], what=home.gateway.err)
        done = until(lambda: reached(heard(), job, "done"), what=home.gateway.err)
        assert (done["attempts"], done["percent"]) == (3, 100.0)
        stale = next(event for event in of_job(heard(), job) if event["stale"])
        assert stale["error_code"] == "RPC_DISCONNECT"
        assert stale["data"] == of_job(heard(), job)[of_job(heard(), job).index(stale) - 1]["data"]
        assert [event for event in heard() if event.get("gone")] == []
    result = home.folder / "file.zst"
    assert zstandard.ZstdDecompressor().decompress(result.read_bytes()) == source.read_bytes()
    assert list(home.folder.glob(".tidegate*")) == []


def _under_way(events: list[dict[str, Any]], job: str) -> dict[str, Any] | None:
    """The newest that was heard of `job`, if an agent has read something of it."""
    data = reached(events, job, "running")
    return data if data and data["percent"] else None


def _process(events: list[dict[str, Any]], agent: str) -> int:
    """The id of the process in which `agent` is."""
    newest = [event["data"] for event in events if event["key"] == agent][-1]
    assert isinstance(newest["pid"], int)
    return newest["pid"]


def _tells(event: dict[str, Any], agent: str, error: str) -> bool:
    return bool(event["key"] == agent and event["data"]["error"] == error)


def test_a_running_job_is_cancelled(home: Home) -> None:
    (home.folder / "unwanted").write_text(text(8_000_000))
    with home.watched() as heard:
        job = home.submitted("unwanted")
        until(lambda: _under_way(heard(), job), what=home.gateway.err)
        [line] = home.run("engine", "cancel", job)
        assert line.startswith(f"{job} cancelled ")
        until(lambda: reached(heard(), job, "cancelled"), what=home.gateway.err)
    assert list(home.folder.glob("*unwanted*")) == [home.folder / "unwanted"]


@needs_browser
async def test_the_page_shows_jobs_and_agents(home: Home) -> None:
    (home.folder / "shown").write_text(text(4_000_000))
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        console = said(page)
        await page.goto(home.gateway.url)
        agents = page.get_by_role("region", name="Agents, table").locator("tbody tr")
        await agents.nth(1).wait_for()
        assert await agents.count() == 2
        job = home.submitted("shown")
        jobs = page.get_by_role("region", name="Compression jobs, table").locator("tbody tr")
        row = jobs.filter(has_text=job)
        await row.locator("text=running").wait_for()
        assert await row.locator("progress").get_attribute("aria-label") == f"progress of job {job}"
        await agents.filter(has_text="busy").filter(has_text=job).wait_for()
        await row.locator("text=done").wait_for()
        assert "100 %" in await row.inner_text()
        assert (await jobs.first.inner_text()).startswith(job)
        assert f"{home.folder}/shown.zst" in await row.inner_text()
    assert [line for line in console if line.startswith("error")] == []


@needs_browser
async def test_what_others_publish_under_such_names_is_among_the_values(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[server]\nallow_no_sources = true\ndefault_types = ["*"]')
    with tidegate("serve", "--config", "tidegate.toml", "--port", "0", folder=tmp_path) as gateway:
        bare = Home(tmp_path, gateway, {URL: gateway.url})
        for type_, data in (("compression.update", '{"percent": "<b>half</b>"}'), ("agent.status", "null")):
            bare.run("publish", type_, data, "--key", "k", "--retain")
        async with chromium() as browser:
            page = await browser.new_page()
            console = said(page)
            await page.goto(gateway.url)
            await page.wait_for_selector("[data-type='agent.status'][data-key=k]")
            assert "<b>half</b>" in await page.locator("[data-type='compression.update']").inner_text()
            assert not await page.get_by_role("region", name="Compression jobs, table").is_visible()
            assert not await page.get_by_role("region", name="Agents, table").is_visible()
        assert [line for line in console if line.startswith("error")] == []
