"""Wheels and sdists hold what they should, say one version, and an sdist is enough to build the same wheel."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import asrloop
from tests.conftest import ROOT
from tests.release.conftest import RELEASED


def tracked(folder: Path) -> set[str]:
    """What git tracks of a project, or would, and lies there now, as paths in it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    return {name for name in listed.stdout.splitlines() if (folder / name).is_file()}


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


def project(folder: Path) -> str:
    return str(tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"])


def built(dist: Path, folder: Path) -> tuple[Path, Path]:
    """Its wheel and its sdist."""
    stem = f"{project(folder).replace('-', '_')}-{asrloop.__version__}"
    return dist / f"{stem}-py3-none-any.whl", dist / f"{stem}.tar.gz"


def test_all_have_the_one_version_and_nothing_else_is_built(dist: Path) -> None:
    assert set(dist.iterdir()) == {path for folder in RELEASED for path in built(dist, folder)}
    for name in ("", "client", "gateway", "benchmarks", "training"):
        path = ROOT / name / "pyproject.toml"
        if path.is_file():
            assert tomllib.loads(path.read_text())["project"]["dynamic"] == ["version"], path


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_an_sdist_is_complete(folder: Path, dist: Path, tmp_path: Path) -> None:
    wheel, sdist = built(dist, folder)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked(folder) - names == set()
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(folder)]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert contents(wheel) == contents(tmp_path / wheel.name)


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_a_wheel_has_its_licence_and_marks_its_types(folder: Path, dist: Path) -> None:
    names = contents(built(dist, folder)[0])
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert any(name.endswith("/py.typed") for name in names)


def test_the_servers_wheel_has_its_models_files_and_no_weights(dist: Path) -> None:
    names = set(contents(built(dist, ROOT)[0]))
    wanted = {name for name in tracked(ROOT) if name.startswith(("asrloop/", "model_repository/"))}
    wanted = {f"asrloop/{name}" if name.startswith("model_repository/") else name for name in wanted}
    assert {name for name in names if ".dist-info/" not in name} == wanted
