"""Takes pictures of the page: python take_pictures.py DIRECTORY [SCENE…]. Without names it is all of `scenes.SCENES`.

Those that the documentation shows go to docs/pictures as well.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from browser import chromium
from playwright.async_api import Browser
from scene import HOST, scene
from scenes import SCENES, backends

from tidegate.cli.engine_process import free_port

DOCS = Path(__file__).parents[2] / "docs/pictures"
MADE_WITH = "made-with.json"
KEPT = (
    *("all-well-1280-light", "all-well-1280-dark", "all-well-390-dark"),
    *("breaker-open-1280-light", "cut-off-1280-light", "breakers-1280-light", "detail-1280-light"),
)
"""What the documentation shows."""

TEXT_WIDTH = """() => {
    const context = document.createElement("canvas").getContext("2d");
    context.font = "15px system-ui";
    return Math.round(100 * context.measureText("Tidegate 0123456789 äöü").width) / 100;
}"""


class Studio:
    """A browser that finds the gateway of each scene under its name."""

    def __init__(self, browser: Browser, port: int) -> None:
        self.browser = browser
        self._port = port

    async def takes(self, name: str) -> Mapping[str, bytes]:
        """The pictures of a scene, as NAME-WIDTH-SCHEME and PNG."""
        async with scene(self.browser, self._port, backends()) as it:
            await SCENES[name](it)
            return {f"{name}-{variant}": png async for variant, png in it.pictures()}

    async def made_with(self) -> dict[str, Any]:
        """What pictures depend on: the browser, and the font that it takes."""
        page = await self.browser.new_page()
        width = await page.evaluate(TEXT_WIDTH)
        await page.close()
        return {"chromium": int(self.browser.version.split(".")[0]), "text_width": width}


@asynccontextmanager
async def studio() -> AsyncIterator[Studio]:
    port = free_port(preferred=0)
    async with chromium(f"--host-resolver-rules=MAP {HOST} 127.0.0.1:{port}", "--hide-scrollbars") as browser:
        yield Studio(browser, port)


async def main(directory: Path, names: list[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    DOCS.mkdir(exist_ok=True)
    async with studio() as it:
        for name in names:
            for file, png in (await it.takes(name)).items():
                (directory / f"{file}.png").write_bytes(png)
                if file in KEPT:
                    (DOCS / f"{file}.png").write_bytes(png)
            print(name, flush=True)
        (DOCS / MADE_WITH).write_text(json.dumps(await it.made_with()) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2:] or list(SCENES)))
