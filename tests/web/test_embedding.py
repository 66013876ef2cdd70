"""Values on other people's pages, in a real browser: the element, the page for frames, and the examples for frameworks.

The pages come from a site of another origin. What they show is never called current while the gateway is frozen.
"""

import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from browser import chromium, needs_browser, said
from playwright.async_api import Browser, Frame, Page
from programs import Program, tidegate
from site_of_others import Site, site

from tidegate.app import App, running
from tidegate.config import from_document

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), needs_browser]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE_MS = 60_000
TOKEN = "t-0123456789abcdef"

CONFIG = """
[server]
port = 0
state_dir = ""
heartbeat_interval_s = 0.5
allowed_origins = ["{site}"]
frame_ancestors = ["{site}"]

[backends.nas]
url = "{site}"
protocol = "http"

[sources."system.status"]
backend = "nas"
method = "/reading"
interval_s = 0.2

[sources."disk.status"]
backend = "nas"
method = "/reading"
interval_s = 0.2
"""

HOME = "http://nas.local:12080"
"""The gateway in the examples."""

NOTHING = "\u2013"

SHOWN = """() => {
    const element = document.querySelector("tidegate-value");
    const state = element ? element.getAttribute("state") : document.querySelector("em")?.textContent;
    const value = element ? element.shadowRoot.querySelector(".value") : document.querySelector("output");
    return `${state} ${parseFloat(value?.textContent)}`;
}"""
"""The state and the number that a page shows, whichever way it does."""

SEEN = """(element) => {
    const part = (name) => element.shadowRoot.querySelector(`.${name}`).textContent;
    return { state: element.getAttribute("state"), value: part("value"), note: part("note"), reason: part("reason") };
}"""


IGNORES = """async (token) => {
    const element = document.querySelector("tidegate-value");
    const before = element.client;
    const told = new Promise((done) => addEventListener("message", done, { once: true }));
    postMessage({ token });
    await told;
    await element.client.ready().catch(() => {});
    return element.client === before;
}"""
"""Whether the page of a frame leaves its connection as it is when it is sent a token by itself."""


async def seen(page: Page | Frame, state: str) -> dict[str, str]:
    """Wait until the only element on the page has that state, and return what it says."""
    element = page.locator(f'tidegate-value[state="{state}"]')
    await element.wait_for(state="attached", timeout=PATIENCE_MS)
    return dict(await element.evaluate(SEEN))


@contextmanager
def frozen(program: Program) -> Iterator[None]:
    program.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        program.signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def others() -> Iterator[Site]:
    """A site of somebody else, whose pages bring nothing but scripts of theirs and of gateways."""
    with site() as served:
        served.files["/reading"] = {"cpu_percent": 12.5}
        yield served


@pytest.fixture(scope="module")
def gateway(others: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A gateway that allows the pages of `others`, in a process of its own."""
    config = tmp_path_factory.mktemp("gateway") / "tidegate.toml"
    config.write_text(CONFIG.format(site=others.url))
    with tidegate("serve", "--config", str(config)) as program:
        policy = f"default-src 'none'; script-src 'self' {program.url}; style-src 'self'; frame-src {program.url};"
        others.headers["Content-Security-Policy"] = (
            f"{policy} connect-src {program.url} {program.url.replace('http', 'ws')}"
        )
        yield program


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@asynccontextmanager
async def opened(browser: Browser, url: str, *, is_clean: bool = True) -> AsyncIterator[Page]:
    """A new page with `url`. If it `is_clean`, it may warn of nothing in the console."""
    page = await browser.new_page()
    lines = said(page)
    try:
        await page.goto(url)
        yield page
        assert not is_clean or [line for line in lines if not line.startswith("info:")] == []
    finally:
        await page.close()


def page_of(element: str, gateway: str, script: str = "") -> str:
    return f'''<!doctype html><html lang="en"><meta charset="utf-8"><title>Test</title>
        <script type="module" src="{gateway}/value.js"></script>{script}<main>{element}</main></html>'''


@pytest.fixture(scope="module")
def bundled(others: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The examples for frameworks, bundled and served by `others`."""
    if shutil.which("node") is None or not (ROOT / "node_modules/esbuild").exists():
        pytest.skip("no Node with esbuild: see tools/install-check-tools")
    folder = tmp_path_factory.mktemp("bundles")
    subprocess.run(["node", ROOT / "tests/support/bundle-examples.mjs", folder], check=True, timeout=60)
    others.files |= {f"/{file.name}": file.read_bytes() for file in folder.iterdir()}


@pytest.mark.usefixtures("bundled")
async def test_each_page_changes_doubts_and_comes_back(browser: Browser, gateway: Program, others: Site) -> None:
    example = (EXAMPLES / "index.html").read_text()
    ten_lines = (EXAMPLES / "page.html").read_text()
    pages = {name: example.replace("main.js", f"{name}.js") for name in ("react", "vue", "svelte")}
    pages |= {"page": ten_lines, "frame": f'<iframe src="{HOME}/embed?type=system.status&field=cpu_percent"></iframe>'}
    others.files |= {f"/{name}": text.replace(HOME, gateway.url) for name, text in pages.items()}
    assert len(ten_lines.splitlines()) == 10
    async with AsyncExitStack() as stack:
        tops = [await stack.enter_async_context(opened(browser, f"{others.url}/{name}")) for name in pages]
        frames = [page.frames[-1] for page in tops]
        others.files["/reading"] = {"cpu_percent": 12.5}
        await all_show(frames, "fresh 12.5")
        others.files["/reading"] = {"cpu_percent": 40}
        await all_show(frames, "fresh 40")
        with frozen(gateway):
            await all_show(frames, "unvouched 40")
            others.files["/reading"] = {"cpu_percent": 41}
        await all_show(frames, "fresh 41")


async def test_a_page_that_is_not_allowed_says_so(browser: Browser, gateway: Program, others: Site) -> None:
    others.files["/stranger"] = page_of('<tidegate-value type="system.status"></tidegate-value>', gateway.url)
    async with opened(browser, f"{others.url}/stranger") as page:
        await seen(page, "fresh")
    async with opened(browser, f"{others.alias}/stranger", is_clean=False) as page:
        refusal = page.locator("tidegate-value .note", has_text=f"pages of {others.alias}")
        await refusal.wait_for(timeout=PATIENCE_MS)
        assert (await seen(page, "waiting"))["value"] == NOTHING


async def test_only_listed_sites_may_show_a_frame(browser: Browser, gateway: Program, others: Site) -> None:
    others.files["/frame"] = f'<iframe src="{gateway.url}/embed?type=system.status&field=cpu_percent"></iframe>'
    async with opened(browser, f"{others.alias}/frame", is_clean=False) as page:
        assert await page.frames[-1].locator("tidegate-value").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_frame_is_light_or_dark_as_it_is_told(scheme: str, browser: Browser, gateway: Program) -> None:
    address = f"{gateway.url}/embed?type=system.status&scheme={scheme}&label=It"
    for visitors in ("light", "dark"):
        page = await browser.new_page(color_scheme=visitors)
        await page.goto(address)
        root = "getComputedStyle(document.documentElement)"
        assert await page.evaluate(f"{root}.colorScheme") == scheme
        text = await page.evaluate("getComputedStyle(document.querySelector('main')).color")
        assert (min(map(int, re.findall(r"\d+", text))) > 127) == (scheme == "dark")
        assert await page.title() == "It"
        await page.close()


async def test_what_there_is_not_is_said(browser: Browser, gateway: Program, others: Site) -> None:
    others.files["/absent"] = page_of('<tidegate-value type="no.such" label="It"></tidegate-value>', gateway.url)
    async with opened(browser, f"{others.url}/absent") as page:
        assert (await seen(page, "none"))["note"] == "no such value"

        await change(page, {"type": "system.status", "field": "cpu_percnt"})
        assert (await seen(page, "none"))["note"] == "no field cpu_percnt in system.status"
        await change(page, {"field": "/cpu_percent"})
        assert (await seen(page, "fresh"))["value"].endswith(" %")

        await change(page, {"type": "Not a type"})
        assert "expected an event type" in (await seen(page, "none"))["note"]
        await change(page, {"type": "system.status", "gateway": "ftp://nas"})
        assert "expected a URL" in (await seen(page, "none"))["note"]
        await change(page, {"gateway": f"{gateway.url}/"})
        await seen(page, "fresh")


async def test_what_is_added_later_is_never_said_to_be_absent(browser: Browser, gateway: Program, others: Site) -> None:
    element = '<tidegate-value type="system.status" field="cpu_percent"></tidegate-value>'
    others.files["/later"] = page_of(element, gateway.url)
    async with opened(browser, f"{others.url}/later") as page:
        await seen(page, "fresh")
        states = await page.evaluate("""() => new Promise((done) => {
            const element = document.querySelector("tidegate-value").cloneNode();
            element.setAttribute("type", "disk.status");
            const states = [];
            new MutationObserver(() => {
                states.push(element.getAttribute("state"));
                if (states.at(-1) === "fresh") done(states);
            }).observe(element, { attributeFilter: ["state"] });
            document.body.append(element);
        })""")
        assert "none" not in states


async def change(page: Page, attributes: dict[str, str]) -> None:
    script = "(element, attributes) => { for (const it of attributes) element.setAttribute(...it); }"
    await page.locator("tidegate-value").evaluate(script, [*attributes.items()])


async def test_elements_share_a_connection_while_there_are_any(
    browser: Browser, gateway: Program, others: Site
) -> None:
    element = '<tidegate-value type="system.status" field="cpu_percent"></tidegate-value>'
    others.files["/many"] = page_of(element + element, gateway.url)
    async with opened(browser, "about:blank") as page:
        connections: list[str] = []
        page.on("websocket", lambda socket: connections.append(socket.url))
        await page.clock.install()
        await page.goto(f"{others.url}/many")
        await page.locator('tidegate-value[state="fresh"] >> nth=1').wait_for(state="attached")
        await page.evaluate("""() => {
            const [first, second] = document.querySelectorAll("tidegate-value");
            globalThis.client = second.client;
            globalThis.states = [];
            const observer = new MutationObserver(() => states.push(second.getAttribute("state")));
            observer.observe(second, { attributeFilter: ["state"] });
            first.remove();
            document.body.prepend(second);
        }""")
        await page.clock.run_for(500)
        await seen(page, "fresh")
        assert (len(connections), await page.evaluate("states")) == (1, [])

        await page.locator("tidegate-value").evaluate("(element) => element.remove()")
        await page.clock.run_for(4000)
        assert await page.evaluate("client.status.state") != "closed"
        await page.clock.run_for(2000)
        assert await page.evaluate("client.status.state") == "closed"


@asynccontextmanager
async def guarded(others: Site) -> AsyncIterator[App]:
    """A gateway that asks for a token."""
    server = {
        "port": 0,
        "state_dir": "",
        "drain_s": 0.0,
        "allowed_origins": [others.url],
        "frame_ancestors": [others.url],
    }
    document = {
        "server": server,
        "auth": {"mode": "token", "tokens": [{"token": TOKEN}]},
        "backends": {"nas": {"url": others.url, "protocol": "http"}},
        "sources": {"system.status": {"backend": "nas", "method": "/reading"}},
    }
    async with running(from_document(document, environ={})) as app:
        yield app


async def test_a_token_comes_from_the_page_and_is_not_in_it(browser: Browser, others: Site) -> None:
    others.headers.clear()
    async with guarded(others) as app:
        script = '<script type="module" src="/token.js"></script>'
        others.files["/token.js"] = (
            f'import {{ configure }} from "{app.url}/value.js"; configure({{ token: () => "{TOKEN}" }});'
        )
        element = '<tidegate-value type="system.status"></tidegate-value>'
        others.files["/guarded"] = page_of(element, app.url)
        async with opened(browser, f"{others.url}/guarded", is_clean=False) as page:
            assert "asks for a token" in (await seen(page, "refused"))["note"]
        others.files["/guarded"] = page_of(element, app.url, script)
        async with opened(browser, f"{others.url}/guarded") as page:
            await seen(page, "fresh")
            assert TOKEN not in await page.content()


async def test_a_frame_takes_a_token_from_the_page_around_it(browser: Browser, others: Site) -> None:
    others.headers.clear()
    async with guarded(others) as app:
        others.files["/frame"] = f'<iframe src="{app.url}/embed?type=system.status"></iframe>'
        async with opened(browser, f"{others.url}/frame", is_clean=False) as page:
            frame = page.frames[-1]
            assert "asks for a token" in (await seen(frame, "refused"))["note"]
            assert await frame.evaluate(IGNORES, TOKEN), "it took a token from somebody else"
            for token, state in (("wrong", "refused"), (TOKEN, "fresh")):
                message = [{"token": token}, app.url]
                await page.evaluate("(message) => frames[0].postMessage(...message)", message)
                await seen(frame, state)


async def all_show(frames: Sequence[Frame], wanted: str) -> None:
    for frame in frames:
        await frame.wait_for_function(f"(wanted) => ({SHOWN})() === wanted", arg=wanted, timeout=PATIENCE_MS)
