"""The files for browsers: what is served, with which header, compressed or not, to which pages."""

import gzip
import re
from pathlib import Path

import pytest
from serving import Answer, Serving, serving

from tidegate.inbound.http_api.pages import EMBED, SHARED, web_files
from tidegate.inbound.http_api.static_file import StaticFile, accepts_gzip

DIRECTORY = Path(__file__).parents[2] / "src/tidegate/web"
FILES = [*web_files()]
SHARED_FILES = sorted(SHARED & {*FILES})
OTHERS = sorted({*FILES} - SHARED)

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
}

IMPORT = re.compile(r"""(?:^|[;}\s])(?:import|export)\b[^;"'`]*?\(?["'`](\.[^"'`]*)["'`]""")


def path_of(file: Path) -> str:
    return "/" if file.name == "index.html" else f"/{file.stem if file.suffix == '.html' else file.name}"


@pytest.mark.parametrize("file", sorted(DIRECTORY.iterdir()), ids=lambda file: file.name)
async def test_every_file_is_served_with_its_type_and_the_headers_of_a_page(file: Path) -> None:
    async with serving() as gate:
        answer = await gate.ask("GET", path_of(file))
    assert (answer.status, answer.body) == (200, file.read_bytes())
    assert answer.headers["content-type"] == KINDS[file.suffix]
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["vary"] == "Accept-Encoding, Origin"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= {*policy}
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("file", sorted(DIRECTORY.glob("*.html")), ids=lambda file: file.name)
def test_a_page_needs_nothing_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "://" not in text.replace("http://www.w3.org", "")
    assert 'src="/' not in text  # all relative: it may be served below a prefix
    assert 'href="/' not in text
    assert "style=" not in text
    assert "<style" not in text
    assert re.findall(r"<script(?![^>]* src=)", text) == []


@pytest.mark.parametrize(
    "path", ["/index.html", "/embed.html", "/no.js", "/web/client.js", "/../pyproject.toml", "/%2e%2e/app.py"]
)
async def test_nothing_else_is_served(path: str) -> None:
    async with serving() as gate:
        assert (await gate.ask("GET", path)).status == 404


def test_what_lies_about_in_the_directory_is_not_served(tmp_path: Path) -> None:
    for name in ("index.html", "embed.html", "app.js", "app.css", "logo.svg", "client.d.ts"):
        (tmp_path / name).write_text(name)
    for name in (
        *(
            ".html",
            ".js",
            "app.mjs",
            ".app.js.swp",
            ".env",
            "app.js~",
            "app.js.orig",
            "#app.js#",
            "app",
            "app.ts",
            "app.JS",
        ),
        *("app.test.js", "app.js.map", "package.json", "tidegate.toml", "token", "client.py", "client.d.ts.old"),
    ):
        (tmp_path / name).write_text("hidden")
    (tmp_path / "folder.js").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "lost.js").symlink_to("gone")
    assert [*web_files(tmp_path)] == ["/app.css", "/app.js", "/client.d.ts", "/embed", "/", "/logo.svg"]


# compressed and conditional


@pytest.mark.parametrize("path", FILES)
async def test_a_file_is_sent_compressed_to_those_who_take_it(path: str) -> None:
    async with serving() as gate:
        plain = await gate.ask("GET", path)
        packed = await gate.ask("GET", path, Accept_Encoding="br, gzip")
        head = await gate.ask("HEAD", path, Accept_Encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body)
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding, Origin"
    assert (head.status, head.body) == (200, b"")
    of_one = {"date": "", "x-request-id": ""}
    length = {"content-length": str(len(packed.body))}
    assert {**head.headers, **of_one} == {**packed.headers, **length, **of_one}


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5, br", True),
        ("GZIP ; q=1.0", True),
        ("*", True),
        ("gzip;level=9;q=1", True),
        ("", False),
        ("br, deflate", False),
        ("gzipped", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip, *;q=0", True),
    ],
)
def test_accept_encoding(field: str, accepted: bool) -> None:
    assert accepts_gzip(field) == accepted


def test_a_file_that_does_not_get_smaller_is_sent_as_it_is() -> None:
    answer = StaticFile(b"x", "text/plain").answer({"accept-encoding": "gzip"})
    assert (answer.status, answer.body) == (200, b"x")
    assert "Content-Encoding" not in answer.fields


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"a", {}', '"a",W/{} , "b"', "*"])
async def test_a_file_that_the_browser_has_is_not_sent_again(coding: str, form: str) -> None:
    async with serving() as gate:
        first = await gate.ask("GET", "/", Accept_Encoding=coding)
        known = {"If-None-Match": form.format(first.headers["etag"]), "Accept-Encoding": coding}
        answer, head = await gate.ask("GET", "/", **known), await gate.ask("HEAD", "/", **known)
    for one in (answer, head):
        assert (one.status, one.body) == (304, b"")
        assert {"content-length", "content-type", "content-encoding"} & {*one.headers} == set()
        for kept in ("etag", "vary", "cache-control", "content-security-policy", "cross-origin-resource-policy"):
            assert one.headers[kept] == first.headers[kept]


@pytest.mark.parametrize("known", ['"a"', "", "W/", "etag"])
async def test_a_file_that_the_browser_does_not_have_is_sent(known: str) -> None:
    async with serving() as gate:
        assert (await gate.ask("GET", "/", If_None_Match=known)).status == 200


async def test_a_compressed_copy_does_not_stand_for_the_plain_file() -> None:
    async with serving() as gate:
        packed = await gate.ask("GET", "/", Accept_Encoding="gzip")
        plain = await gate.ask("GET", "/", If_None_Match=packed.headers["etag"])
    assert (plain.status, plain.headers.get("content-encoding")) == (200, None)


def test_another_content_has_another_tag() -> None:
    one, other = (StaticFile(content, "text/plain").answer({}) for content in (b"a", b"b"))
    assert one.fields["ETag"] != other.fields["ETag"]


# pages of other origins


FOREIGN = "https://wiki.example"


def check_shared(answer: Answer) -> None:
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize("origin", [FOREIGN, "null", "file://"])
@pytest.mark.parametrize("path", SHARED_FILES)
async def test_a_page_of_any_origin_may_load_what_is_shared(path: str, origin: str) -> None:
    async with serving() as gate:
        for method in ("GET", "HEAD"):
            answer = await gate.ask(method, path, Origin=origin)
            assert answer.status == 200
            check_shared(answer)
        kept = await gate.ask("GET", path, Origin=origin, If_None_Match=answer.headers["etag"])
        assert kept.status == 304
        check_shared(kept)
        assert gate.house.metrics.named("request_refused") == []


@pytest.mark.parametrize("path", SHARED_FILES)
async def test_what_is_shared_is_shared_with_listed_origins_and_below_a_prefix_too(path: str) -> None:
    async with serving(gate={"origins": [FOREIGN]}, http={"root_path": "/gw"}) as gate:
        for origin in (FOREIGN, "https://other.example"):
            for prefix in ("", "/gw"):
                check_shared(await gate.ask("GET", f"{prefix}{path}", Origin=origin))
        check_shared(await gate.ask("GET", path))


@pytest.mark.parametrize("path", SHARED_FILES)
async def test_what_is_shared_is_only_read_and_only_at_our_own_name(path: str) -> None:
    async with serving() as gate:
        assert (await gate.ask("GET", path, Origin=FOREIGN, Host="evil.example")).status == 421
        for method in ("POST", "DELETE", "OPTIONS"):
            refused = await gate.ask(method, path, Origin=FOREIGN)
            assert (refused.status, "access-control-allow-origin" in refused.headers) == (403, False)


@pytest.mark.parametrize("path", OTHERS)
async def test_nothing_else_is_shared(path: str) -> None:
    async with serving() as gate:
        own = await gate.ask("GET", path)
        foreign = await gate.ask("GET", path, Origin=FOREIGN)
    assert own.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in own.headers
    assert (foreign.status, "access-control-allow-origin" in foreign.headers) == (403, False)


@pytest.mark.parametrize("path", [path for path in SHARED_FILES if path.endswith(".js")])
def test_what_a_shared_file_imports_is_shared(path: str) -> None:
    text = (DIRECTORY / path[1:]).read_text(encoding="utf-8")
    assert {f"/{name.removeprefix('./')}" for name in IMPORT.findall(text)} <= SHARED


# in frames


async def ancestors(gate: Serving, path: str) -> str:
    policy = (await gate.ask("GET", path)).headers["content-security-policy"]
    [found] = [part for part in policy.split("; ") if part.startswith("frame-ancestors ")]
    return found.removeprefix("frame-ancestors ")


async def test_nobody_may_frame_a_page_unless_listed() -> None:
    async with serving() as gate:
        assert {await ancestors(gate, path) for path in FILES} == {"'none'"}


async def test_listed_sites_may_frame_the_page_that_is_made_for_it() -> None:
    listed = {"frame_ancestors": ("https://wiki.example", "http://nas:8080"), "root_path": "/gw"}
    async with serving(http=listed) as gate:
        for path in (EMBED, f"{EMBED}?type=system.status", f"/gw{EMBED}"):
            assert await ancestors(gate, path) == "https://wiki.example http://nas:8080"
        assert {await ancestors(gate, path) for path in FILES if path != EMBED} == {"'none'"}
