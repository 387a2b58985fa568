"""What the images install is pinned by hashes, and what they stand on can be; what must not get into them is kept out."""

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tests.deploy.image import instructions

DEPLOY = ROOT / "deploy"
DOCKERFILES = ("Dockerfile", "Dockerfile.nvidia")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
OURS = ("asrloop", "asrloop-client", "asrloop-gateway")


def pins(path: Path) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in PIN.findall(path.read_text())}


def closure(wanted: list[Requirement]) -> set[str]:
    """The names of all that these need, by what is installed here; ours are left out."""
    found: set[tuple[str, str]] = set()
    waiting = [(each, extra) for each in wanted for extra in (*each.extras, "")]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) not in found:
            found.add((name, extra))
            needed = (Requirement(each) for each in requires(name) or ())
            applies = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
            waiting += [(each, inner) for each in applies for inner in (*each.extras, "")]
    return {name for name, _ in found} - set(OURS)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_pip_takes_nothing_without_its_hash(name: str) -> None:
    steps = [rest for instruction, rest in instructions((DEPLOY / name).read_text()) if instruction == "RUN"]
    installs = [step for step in steps if re.search(r"pip (install|wheel|download)", step)]
    assert len(installs) == 4
    for step in installs:
        hashed = "--require-hashes --only-binary=:all: --requirement /src/deploy/requirements" in step
        ours = "--no-index --no-deps /wheels/" in step or "wheel --no-build-isolation --no-deps" in step
        assert hashed or ours, step


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_an_image_stands_on_is_an_argument(name: str) -> None:
    steps = list(instructions((DEPLOY / name).read_text()))
    (argument,) = (rest.partition("=")[0] for instruction, rest in steps if instruction == "ARG")
    assert {rest.split()[0] for instruction, rest in steps if instruction == "FROM"} == {f"${{{argument}}}"}


def test_the_pins_are_those_that_are_tested_and_cover_all_that_is_needed() -> None:
    tested = pins(ROOT / "constraints.txt")
    wanted = {
        "requirements.txt": [
            Requirement("asrloop"),
            Requirement("asrloop-client[cli]"),
            Requirement("asrloop-gateway"),
        ],
        "requirements-build.txt": [Requirement("hatchling")],
    }
    for name, requirements in wanted.items():
        pinned = pins(DEPLOY / name)
        assert pinned.items() <= tested.items(), "run `make hashes`"
        assert closure(requirements) <= set(pinned), "run `make hashes`"
        for entry in re.split(r"\n(?=\S)", (DEPLOY / name).read_text().strip())[1:]:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.network
@pytest.mark.slow
def test_the_hashes_are_those_of_the_index() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "write_hashes.py", "--check"], check=True, timeout=290)


def test_no_image_gets_what_git_ignores_or_a_secret() -> None:
    def patterns(path: Path) -> set[str]:
        lines = (line for line in path.read_text().splitlines() if line and not line.startswith(("#", "!")))
        return {line.removeprefix("**/").strip("/") for line in lines}

    ignored = patterns(ROOT / ".dockerignore")
    assert [path.name for path in ROOT.glob("**/*dockerignore") if ".cache" not in path.parts] == [".dockerignore"]
    # Generated models are ignored model by model there, and all together here.
    by_model = {each for each in patterns(ROOT / ".gitignore") if each.startswith("model_repository/")}
    assert patterns(ROOT / ".gitignore") - by_model <= ignored
    assert {"deploy/gateway.key", "*.key", "*.pem", "keys", "model_repository/*/1/*"} <= ignored
