"""What `<tidegate-value>` says of a value, in words and in shape. A client of the test says what the value is."""

import re
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest
import pytest_asyncio
from browser import chromium, needs_browser, said
from playwright.async_api import Locator, Page
from visiting import Visitor

from tidegate.testing import gateway

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), needs_browser]

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Values</title>
<meta name="color-scheme" content="light dark"><script type="module" src="value.js"></script>
<main><h1>Values</h1></main></html>"""
STRICT = {"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'"}

NOTHING = "\u2013"
NOW = 1_795_383_603_000
MOMENT = "2026-11-22T21:40:00Z"
LIVE: Mapping[str, object] = {"state": "live", "attempt": 1, "reason": None}
GOOD = {
    "type": "system.status", "key": None, "data": {"cpu_percent": 12.5}, "state": "fresh", "stale": False,
    "as_of": MOMENT, "error_code": None, "cause": None, "retry_at": None, "source": "engine", "seq": 4,
    "timestamp": MOMENT, "since": NOW - 200_000, "changedAt": NOW,
}  # fmt: skip
STALE = GOOD | {"state": "stale", "stale": True, "error_code": "CIRCUIT_BREAKER_OPEN", "cause": "RPC_DISCONNECT"}
NEVER = GOOD | {"state": "never", "data": None, "stale": True, "as_of": None, "error_code": "RPC_TIMEOUT"}
PUBLISHED = GOOD | {"state": "published", "stale": None, "as_of": None, "source": None}

AWAY = {"state": "waiting", "reason": "cannot reach the gateway"}
REFUSED = {"state": "refused", "reason": "this gateway asks for a token"}
NARROW = {"reason": "this token does not cover a.b"}


class Sight(NamedTuple):
    """What is seen of a value (None: there is none) while the connection's status is `LIVE`, but for `status`."""

    state: str
    value: str
    note: str
    reason: str
    of: Mapping[str, object] | None = None
    status: Mapping[str, object] = LIVE


SIGHTS = {
    "fresh": Sight("fresh", "12.5 %", "fresh", "as of ", of=GOOD),
    "stale": Sight("stale", "12.5 %", "stale for 3 min", "not asked, because it failed: cannot be reached; ", of=STALE),
    "expired": Sight("expired", NOTHING, "expired", "not asked, ", of=STALE | {"state": "expired", "data": None}),
    "unvouched": Sight(
        "unvouched",
        "12.5 %",
        "was fresh, not confirmed for 12 s",
        "no contact with the gateway: cannot reach the gateway; as of ",
        of=GOOD | {"state": "unvouched", "since": NOW - 12_000},
        status=AWAY,
    ),
    "published": Sight("published", "12.5 %", "published 3 s ago", "published at ", of=PUBLISHED),
    "never": Sight("never", NOTHING, "never answered", "no answer in time; from engine", of=NEVER),
    "unknown": Sight("never", NOTHING, "never answered", "", of=NEVER | {"source": None, "error_code": None}),
    "absent": Sight("none", NOTHING, "no such value", ""),
    "uncovered": Sight("none", NOTHING, "no such value: this token does not cover a.b", "", status=NARROW),
    "connecting": Sight("waiting", NOTHING, "connecting", "", status={"state": "connecting"}),
    "away": Sight("waiting", NOTHING, "cannot reach the gateway", "", status=AWAY),
    "trying-again": Sight(
        "waiting", NOTHING, "cannot reach the gateway", "", status=AWAY | {"state": "connecting", "attempt": 2}
    ),
    "refused": Sight("refused", NOTHING, "refused: this gateway asks for a token", "", status=REFUSED),
}

ADD = """([name, value, status, attributes, now]) => {
    const element = document.createElement("tidegate-value");
    const all = { id: name, type: "system.status", field: "cpu_percent", label: name, ...attributes };
    for (const [attribute, text] of Object.entries(all)) element.setAttribute(attribute, text);
    const store = { get: (type, key) => (key ? undefined : value ?? undefined), subscribe: () => () => {} };
    const onStatus = (changed) => {
        globalThis.statusChanged = changed;
        return () => {};
    };
    element.client = { status, store, now: () => now, onStatus, ready: async () => {} };
    const paragraph = document.createElement("p");
    paragraph.append(element);
    document.getElementById(name)?.parentElement.remove();
    document.querySelector("main").append(paragraph);
}"""
"""Adds an element whose client says what it is told to say, without a gateway."""

SEEN = """(element) => {
    const part = (name) => element.shadowRoot.querySelector(`.${name}`).textContent;
    return { state: element.getAttribute("state"), value: part("value"), note: part("note"), reason: part("reason") };
}"""

SHAPE = '(element) => element.shadowRoot.querySelector("path").getAttribute("d")'


async def add(
    page: Page,
    name: str,
    value: object,
    status: Mapping[str, object] = LIVE,
    attributes: Mapping[str, str] = MappingProxyType({}),
) -> Locator:
    await page.evaluate(ADD, [name, value, {**LIVE, **status}, dict(attributes), NOW])
    element = page.locator(f"#{name}")
    await element.locator(".note", has_text=re.compile(".")).wait_for(state="attached")
    return element


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def opened() -> AsyncIterator[Page]:
    """A page with the element and without values. Nothing may be said in its console."""
    async with gateway({}) as running, chromium() as browser:
        page = await browser.new_page()
        lines = said(page)
        await page.route("**/page", lambda asked: asked.fulfill(content_type="text/html", body=PAGE, headers=STRICT))
        await page.goto(f"{running.url}/page")
        yield page
        assert lines == []


@pytest.fixture
def page(opened: Page) -> Page:
    return opened


async def test_each_state_has_its_words_and_its_shape(page: Page) -> None:
    shapes = {}
    for name, sight in SIGHTS.items():
        element = await add(page, name, sight.of, sight.status)
        found = await element.evaluate(SEEN)
        assert (found["state"], found["value"], found["note"]) == (sight.state, sight.value, sight.note)
        assert found["reason"].startswith(sight.reason) if sight.reason else found["reason"] == ""
        group = element.get_by_role("group", name=name)
        assert await group.get_attribute("title") == found["reason"]
        shapes[found["state"]] = await element.evaluate(SHAPE)
    looks = [shapes[state] for state in ("fresh", "stale", "expired", "unvouched", "published", "never")]
    assert len(set(looks)) == len(looks)
    await Visitor(page, "").has_no_barriers()


@pytest.mark.parametrize(
    ("data", "attributes", "text"),
    [
        ({"a": [{"b": 2_500_000}]}, {"field": "a.0.b", "format": "bytes"}, "2.50 MB"),
        ({"a.b": {"c/d": 90}}, {"field": "/a.b/c~1d", "format": "s"}, "90 s"),
        ({"up_s": 7200}, {"field": "up_s"}, "2 h"),
        ({"up_s": 7200}, {"field": "up_s", "format": "text"}, "7200"),
        ({"cpu_percent": 5, "name": "x"}, {"field": ""}, "cpu 5 % \u00b7 name x"),
        ({"name": "<img src=x onerror=alert(1)>"}, {"field": "name"}, "<img src=x onerror=alert(1)>"),
        ({"name": "a\u202eb"}, {"field": "name"}, "a\\u202eb"),
        ({"name": "x"}, {"field": "constructor"}, NOTHING),
        ({"name": "x"}, {"field": "name.length"}, NOTHING),
        ({"list": [1, 2, 3]}, {"field": "list"}, "3 items"),
        (None, {"field": ""}, "null"),
    ],
)
async def test_how_a_field_is_found_and_shown(data: object, attributes: dict[str, str], text: str, page: Page) -> None:
    element = await add(page, "it", PUBLISHED | {"data": data}, attributes=attributes)
    assert (await element.evaluate(SEEN))["value"] == text


async def test_a_change_of_the_connection_is_told_at_once(page: Page) -> None:
    element = await add(page, "it", None)
    told = """(element, status) => {
        element.client.status = status;
        statusChanged();
        return element.getAttribute("state");
    }"""
    assert [await element.evaluate(told, status) for status in (AWAY, REFUSED)] == ["waiting", "refused"]


@pytest.mark.parametrize(("value", "note"), [(NEVER, "never answered"), (GOOD, "no such value")])
async def test_items_of_a_source_that_was_never_answered_say_so(
    value: Mapping[str, object], note: str, page: Page
) -> None:
    element = await add(page, "it", value, attributes={"key": "agent-1"})
    assert (await element.evaluate(SEEN))["note"] == note
