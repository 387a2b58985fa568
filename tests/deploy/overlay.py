"""Puts a kustomization together as `kubectl kustomize` would, as far as the project's own use it, and refuses the rest.

Bases, `labels`, `namespace`, `images`, and strategic merge patches by file. It is no kustomize: none is in the package index.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
KNOWN = {"apiVersion", "kind", "resources", "labels", "namespace", "images", "patches"}
SELECTORS = {
    "Deployment": ("spec", "selector", "matchLabels"),
    "Service": ("spec", "selector"),
    "PodDisruptionBudget": ("spec", "selector", "matchLabels"),
    "NetworkPolicy": ("spec", "podSelector", "matchLabels"),
}
"""Where kustomize puts labels with `includeSelectors`, by kind."""


def build(folder: Path) -> list[Resource]:
    """The resources of ``folder/kustomization.yaml``, which git keeps apart."""
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(wanted) - KNOWN
    if unknown:
        raise ValueError(f"{folder}: {unknown} is not known here")
    resources = [each for name in wanted["resources"] for each in _read(folder / name)]
    for patch in wanted.get("patches", []):
        change = yaml.safe_load((folder / patch["path"]).read_text())
        (target,) = (each for each in resources if _identity(each) == _identity(change))
        resources[resources.index(target)] = merged(target, change)
    for label in wanted.get("labels", []):
        for resource in resources:
            _label(resource, label["pairs"])
    for resource in resources:
        if "namespace" in wanted:
            resource["metadata"]["namespace"] = wanted["namespace"]
        for image in wanted.get("images", []):
            for container in _containers(resource):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return resources


def merged(old: Any, new: Any) -> Any:
    """A strategic merge: lists of things with names are merged by name, other lists are replaced, None removes."""
    if isinstance(old, dict) and isinstance(new, dict):
        result = {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
        return {key: value for key, value in result.items() if value is not None}
    if isinstance(old, list) and isinstance(new, list) and all("name" in each for each in (*old, *new)):
        changes = {each["name"]: each for each in new}
        kept = [merged(each, changes.pop(each["name"], {})) for each in old]
        return [*kept, *changes.values()]
    return deepcopy(new)


def _read(path: Path) -> Iterator[Resource]:
    if path.is_dir():
        yield from build(path)
    else:
        yield from yaml.safe_load_all(path.read_text())


def _identity(resource: Resource) -> tuple[str, str, str]:
    return resource["apiVersion"], resource["kind"], resource["metadata"]["name"]


def _label(resource: Resource, pairs: dict[str, str]) -> None:
    resource["metadata"].setdefault("labels", {}).update(pairs)
    if resource["kind"] == "Deployment":
        resource["spec"]["template"].setdefault("metadata", {}).setdefault("labels", {}).update(pairs)
    if resource["kind"] in SELECTORS:
        target = resource
        for key in SELECTORS[resource["kind"]]:
            target = target.setdefault(key, {})
        target.update(pairs)


def _containers(resource: Resource) -> list[Resource]:
    return list(resource["spec"]["template"]["spec"]["containers"]) if resource["kind"] == "Deployment" else []
