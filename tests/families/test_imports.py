"""What families may import: no circles, no family another, and a decoder never the package that only builds."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asrloop import families

ROOT = Path(families.__file__).parent
FAMILIES = sorted(path.parent.name for path in ROOT.glob("*/entry.py"))
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in FAMILIES)
FOUNDATIONS = (
    "engine.family",
    "engine.options",
    "audio",
    "config",
    "cores",
    "errors",
    "onnx_files",
    "paths",
    "recognizer",
    "spacing",
    "speech.graph",
    "wheels",
)
"""What ``asrloop.families`` stands on. None of it imports families."""

MODULES = sorted(path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py"))


def imported(module: Path) -> Iterator[str]:
    """The modules of ``asrloop`` that ``module`` names, without ``asrloop.``"""
    for node in ast.walk(ast.parse((ROOT / module).with_suffix(".py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "asrloop":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level
            yield node.module.removeprefix("asrloop.") if node.module.startswith("asrloop.") else ""
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("asrloop.") for alias in node.names if "asrloop" in alias.name)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_families_stand_on_the_foundations_and_rooms_know_no_family(module: Path) -> None:
    names = [name for name in imported(module) if name]
    outside = [name for name in names if not name.startswith("families")]
    assert all(name.startswith(FOUNDATIONS) for name in outside), outside
    room = module.parts[0]
    others = [family for family in FAMILIES if family != room]
    if len(module.parts) > 1:
        assert not [name for name in names if name.split(".")[1:2] and name.split(".")[1] in others]
        assert "families.registry" not in names


def test_modules_do_not_import_each_other_in_circles() -> None:
    needs = {
        ".".join(["families", *module.parts]).removesuffix(".__init__"): {
            name for name in imported(module) if name.startswith("families.")
        }
        for module in MODULES
    }
    while free := [name for name, wanted in needs.items() if not wanted & needs.keys()]:
        for name in free:
            del needs[name]
    assert not needs


def test_the_rooms_are_found() -> None:
    assert FAMILIES == ["moonshine", "transducer", "whisper"]
    assert ROOMS == ["attention", "checkpoints", "features", "graphs", "quantize", "text"]


@pytest.mark.parametrize("module", ["registry", "offline", *(f"{family}.entry" for family in FAMILIES)])
def test_decoding_needs_no_onnx(module: str) -> None:
    program = f"import asrloop.families.{module}, sys; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
