"""Reads the Kubernetes manifests: the base as it is written, the overlays as the real kustomize builds them.

The base uses nothing of kustomize but its lists of files, so reading it needs no kustomize.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

Resource = dict[str, Any]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted((FOLDER / "overlays").iterdir())


def read(folder: Path) -> list[Resource]:
    """Read the files that ``folder/kustomization.yaml`` lists. Raises ValueError where it asks for more than that."""
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if set(wanted) != {"apiVersion", "kind", "resources"}:
        raise ValueError(f"{folder}: {set(wanted)}: only kustomize itself can build this")
    return [each for name in wanted["resources"] for each in _documents(folder / name)]


def build(folder: Path) -> list[Resource]:
    """Return what `kubectl apply -k` would send to the cluster. Needs kubectl."""
    command = ["kubectl", "kustomize", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return list(yaml.safe_load_all(built))


def can_build() -> bool:
    """Return whether kubectl is here."""
    return shutil.which("kubectl") is not None


def one(resources: list[Resource], kind: str, name: str = "asrloop") -> Resource:
    """Return the only resource of that kind and name."""
    (found,) = (each for each in resources if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def _documents(path: Path) -> Iterator[Resource]:
    if path.is_dir():
        yield from read(path)
    else:
        yield from yaml.safe_load_all(path.read_text())
