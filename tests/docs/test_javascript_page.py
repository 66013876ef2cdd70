"""`docs/javascript.md` names all that `client.d.ts` declares, and its examples have the right types."""

import json
import re
from pathlib import Path

import pytest
from javascript import ROOT, TSC, WEB, needs, run

PAGE = (ROOT / "docs/javascript.md").read_text(encoding="utf-8")
REFERENCE = PAGE.partition("\n## Reference\n")[2]
DECLARATIONS = (WEB / "client.d.ts").read_text(encoding="utf-8")

DECLARED = re.findall(r"^export (?:interface|class|type|function) (\w+)", DECLARATIONS, flags=re.MULTILINE)
BODIES = re.findall(
    r"^export (?:interface|class) (\w+)[^{\n]*\{\n(.*?)^\}", DECLARATIONS, flags=re.MULTILINE | re.DOTALL
)
MEMBERS = [
    (name, member)
    for name, body in BODIES
    for member in re.findall(r"^  (?:readonly )?(\w+)\??[:(<]", body, flags=re.MULTILINE)
    if member != "constructor"
]

EXAMPLES = re.findall(r"^```(js|ts)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
EXAMPLES += [
    ("js", script)
    for html in re.findall(r"^```html\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    for script in re.findall(r'<script type="module">\n(.*?)</script>', html, flags=re.DOTALL)
]


def names(text: str) -> set[str]:
    """The names in what is written as code in `text`."""
    return {name for code in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"\w+", code)}


def test_everything_is_found_that_is_declared() -> None:
    assert {"connect", "TidegateError"} <= set(DECLARED)
    assert {name for name, _ in MEMBERS} == {
        *("Client", "Event", "Gap", "Options", "Session", "Status", "Store", "TidegateError", "TokenRequest"),
        *("Until", "Value"),
    }
    assert len(MEMBERS) > 80


@pytest.mark.parametrize("name", DECLARED)
def test_the_reference_has_every_export(name: str) -> None:
    assert name in names(REFERENCE)


@pytest.mark.parametrize(("owner", "member"), MEMBERS)
def test_the_reference_has_every_member_where_its_owner_is(owner: str, member: str) -> None:
    parts = [part for part in REFERENCE.split("\n\n") if owner in names(part.partition("\n")[0])]
    assert any(member in names(part) for part in parts)


def test_every_state_is_explained() -> None:
    for states in re.findall(r"readonly state: ([^;]+);", DECLARATIONS):
        for state in re.findall(r'"(\w+)"', states):
            assert f"\n| `{state}` | " in PAGE


@pytest.mark.real
@needs("typescript")
@needs("ws")
def test_the_examples_have_the_right_types(tmp_path: Path) -> None:
    (tmp_path / "ws.d.ts").write_text('declare module "ws" { export const WebSocket: any; }')
    assert len(EXAMPLES) > 9
    for number, (kind, text) in enumerate(EXAMPLES):
        code = re.sub(r'"http://[^"]*/client\.js"', '"tidegate"', text)
        code = re.sub(r'"http://[^"]*/(value\.js)"', rf'"{WEB}/\1"', code)
        (tmp_path / f"example-{number}.{'ts' if kind == 'ts' else 'js'}").write_text(code)
    extended = {
        "extends": str(ROOT / "tsconfig.json"),
        "compilerOptions": {"paths": {"tidegate": [str(WEB / "client.d.ts")]}},
        "include": [f"{tmp_path}/*"],
        "exclude": [],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(extended))
    said = run(TSC, "-p", tmp_path, "--listFilesOnly")
    assert "example-0.js" in said
    run(TSC, "-p", tmp_path)
