import os
from pathlib import Path

import pytest

from tidegate.engine.compression.refusals import Code, Refused
from tidegate.engine.compression.roots import Roots, path_from_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a folder and a file in it, and a secret beside it."""
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_text("inside")
    (tmp_path / "rootless").write_text("secret")
    return root


def resolve(root: Path, path: str) -> str:
    return os.fsdecode(Roots([root]).resolve(path.encode()))


def read(root: Path, path: Path) -> bytes:
    descriptor = Roots([root]).open(os.fsencode(path), os.O_RDONLY)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_paths_within_a_root_are_resolved(root: Path) -> None:
    (root / "link").symlink_to("folder/file")
    for path in ("folder/file", "./folder/../folder//file", "link"):
        assert resolve(root, f"{root}/{path}") == f"{root}/folder/file"
    assert resolve(root, f"{root}/missing/too") == f"{root}/missing/too"
    assert resolve(root, str(root)) == str(root)


@pytest.mark.parametrize(
    "path", ["{root}/..", "{root}/../rootless", "{root}/folder/../../rootless", "{root}less", "/", "/etc"]
)
def test_paths_that_lead_out_are_refused(root: Path, path: str) -> None:
    with pytest.raises(Refused, match="expected a path within the allowed folders") as refused:
        resolve(root, path.format(root=root))
    assert refused.value.code is Code.NOT_ALLOWED


@pytest.mark.parametrize("target", ["../rootless", "/etc/passwd", ".."])
def test_links_that_lead_out_are_refused(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    with pytest.raises(Refused, match="within the allowed folders"):
        resolve(root, f"{root}/link")


@pytest.mark.parametrize("path", ["", "folder", "~/x", "/\0"])
def test_only_absolute_paths_are_taken(root: Path, path: str) -> None:
    with pytest.raises(Refused, match="expected an absolute path"):
        resolve(root, path)


def test_without_a_root_everything_is_refused() -> None:
    with pytest.raises(Refused, match="none, see --allow-root"):
        Roots([]).resolve(b"/tmp")


def test_a_root_may_be_given_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(root)
    assert resolve(tmp_path / "other", f"{tmp_path}/other/folder") == f"{root}/folder"


def test_the_root_of_all_allows_all() -> None:
    assert Roots(["/"]).resolve(b"/etc") == b"/etc"


def test_a_file_is_opened_below_its_root(root: Path) -> None:
    assert read(root, root / "folder" / "file") == b"inside"
    os.close(Roots([root]).open(os.fsencode(root), os.O_RDONLY | os.O_DIRECTORY))


def test_a_folder_that_became_a_link_since_leads_nowhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("secret")
    (root / "folder").rename(root / "moved")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError):
        read(root, root / "folder" / "file")


def test_a_file_that_became_a_link_since_is_not_opened(root: Path, tmp_path: Path) -> None:
    (root / "folder" / "file").unlink()
    (root / "folder" / "file").symlink_to(tmp_path / "rootless")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        read(root, root / "folder" / "file")


def test_opening_leaves_no_descriptor_behind(root: Path) -> None:
    before = open_descriptors()
    read(root, root / "folder" / "file")
    with pytest.raises(FileNotFoundError):
        read(root, root / "folder" / "none" / "x")
    with pytest.raises(Refused):
        read(root, Path("/etc/passwd"))
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/a/\u00e9", "/a/\u00e9".encode()),
        ("file:///a/%FFb", b"/a/\xffb"),
        ("file://localhost/a%20b", b"/a b"),
        ("file:/a", b"/a"),
        ("file://elsewhere/a", b"file://elsewhere/a"),
        ("relative", b"relative"),
    ],
)
def test_a_path_is_text_or_a_uri(text: str, path: bytes) -> None:
    assert path_from_text(text) == path
