"""One of the pictures that `make pictures` takes is taken again, and compared with the one in docs/pictures.

A picture depends on the browser and its fonts, so that is done only where both are those that it was made with.
"""

import base64
import json
from pathlib import Path

import pytest
from browser import needs_browser
from scenes import SCENES
from take_pictures import DOCS, KEPT, MADE_WITH, studio

pytestmark = [pytest.mark.real, needs_browser]

SAMPLE = "all-well"
MOST_OTHER = 0.001
SAME = 12
"""Levels of a colour that nobody tells apart."""

OTHER = """async ([one, two, same]) => {
    const pixels = async (png) => {
        const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
        context.drawImage(bitmap, 0, 0);
        return context.getImageData(0, 0, bitmap.width, bitmap.height);
    };
    const [a, b] = [await pixels(one), await pixels(two)];
    if (a.width !== b.width || a.height !== b.height) return 1;
    let others = 0;
    for (let at = 0; at < a.data.length; at += 4) {
        others += [0, 1, 2].some((of) => Math.abs(a.data[at + of] - b.data[at + of]) > same);
    }
    return others / (a.width * a.height);
}"""
"""The share of pixels in which two pictures differ."""


def test_the_documentation_has_its_pictures() -> None:
    assert {file.stem for file in DOCS.glob("*.png")} == set(KEPT)
    assert {name.rsplit("-", 2)[0] for name in KEPT} <= SCENES.keys()
    assert sum(file.stat().st_size for file in DOCS.iterdir()) < 1_000_000


async def test_a_picture_is_as_it_was(tmp_path: Path) -> None:
    async with studio() as it:
        made_with = json.loads((DOCS / MADE_WITH).read_text())
        if (here := await it.made_with()) != made_with:
            pytest.skip(f"docs/pictures were made with {made_with}, here is {here}")
        page = await it.browser.new_page()
        for name, png in (await it.takes(SAMPLE)).items():
            if name not in KEPT:
                continue
            kept = (DOCS / f"{name}.png").read_bytes()
            texts = [base64.b64encode(it).decode() for it in (png, kept)]
            (tmp_path / f"{name}.png").write_bytes(png)
            other = await page.evaluate(OTHER, [*texts, SAME])
            assert other <= MOST_OTHER, (
                f"{other:.2%} of {name} is other: see {tmp_path}, or run `make pictures` and look"
            )
