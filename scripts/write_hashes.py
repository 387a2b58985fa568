"""Write the requirements of the images, with hashes: `make hashes`, after constraints.txt or a pyproject.toml has changed.

pip resolves them for each Python that the project supports, by the versions of constraints.txt, and says the hashes of the wheels
that its index has for Linux on x86_64, the only processor that the server is built for. Nothing is installed.
"""

import argparse
import difflib
import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12")
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(28, 16, -1)), "manylinux2014_x86_64")
FILES = {"requirements.txt": "install beside our own packages", "requirements-build.txt": "build our own packages with"}


def project(folder: str) -> dict[str, Any]:
    """Return the pyproject.toml of `folder`."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))


def wanted() -> dict[str, list[str]]:
    """Return what the projects themselves ask for, by the file that it goes to."""
    projects = [project(folder) for folder in (".", "client", "gateway")]
    runs = [each for one in projects for each in one["project"]["dependencies"]]
    runs += projects[1]["project"]["optional-dependencies"]["cli"]
    builds = [each for one in projects for each in one["build-system"]["requires"]]
    ours = {one["project"]["name"] for one in projects}
    return dict(zip(FILES, ([each for each in runs if each not in ours], builds), strict=True))


def resolved(requirements: list[str], python: str) -> dict[str, tuple[str, str]]:
    """Return version and sha256 of each wheel that `python` needs, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--only-binary=:all:",
        ]
        command += ["--disable-pip-version-check", f"--target={scratch}/none", f"--report={report}"]
        command += ["--implementation=cp", f"--python-version={python}", *(f"--platform={each}" for each in PLATFORMS)]
        command += [f"--constraint={ROOT / 'constraints.txt'}", *requirements]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    wheels = ((each["metadata"], each["download_info"]["archive_info"]["hashes"]["sha256"]) for each in found)
    return {metadata["name"].lower().replace("_", "-"): (metadata["version"], sha256) for metadata, sha256 in wheels}


def text(requirements: list[str], purpose: str) -> str:
    """Return the content of one file."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for python in PYTHONS:
        for name, (version, sha256) in resolved(requirements, python).items():
            hashes[f"{name}=={version}"].add(sha256)
    head = f"# What the images {purpose}: hashes for Python {' and '.join(PYTHONS)} on x86_64. By `make hashes`.\n"
    lines = [
        " \\\n".join([pin, *(f"    --hash=sha256:{each}" for each in sorted(hashes[pin]))]) for pin in sorted(hashes)
    ]
    return head + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, and fail where a file is not what it would be"
    )
    check, changed = parser.parse_args().check, False
    for name, requirements in wanted().items():
        path = ROOT / "deploy" / name
        old, new = path.read_text(encoding="utf-8") if path.is_file() else "", text(requirements, FILES[name])
        changed = changed or old != new
        if check:
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, "now"))
        else:
            path.write_text(new, encoding="utf-8")
    if check and changed:
        sys.exit("Run `make hashes`.")


if __name__ == "__main__":
    main()
