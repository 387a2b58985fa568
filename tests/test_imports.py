"""What imports what: no circles between packages, no ONNX in a decoder, no engine in a process that only parses files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "asrloop"


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports when it is imported itself, or inside functions; not those for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room(module: str) -> str:
    """The package or module of the top level that a module belongs to, such as ``engine``; "" for another's."""
    first, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    return name if first == "asrloop" and ((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()) else ""


def test_packages_do_not_import_each_other_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        own = room(".".join(["asrloop", *path.relative_to(PACKAGE).with_suffix("").parts]))
        if own and own != "__init__":
            graph.setdefault(own, set()).update({room(name) for name in imported(path)} - {own, ""})
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert {"errors", "engine", "families", "speech", "live", "assembly"} <= set(order)
    assert graph["errors"] == set(), "the ground floor imports nothing"


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (
            "asrloop.audio.decoding, asrloop.engine.options, asrloop.tritonmodel.reply, asrloop.tritonmodel.calls",
            "onnxruntime",
        ),
        ("asrloop.assembly", "onnx"),
        ("asrloop", "numpy"),
    ],
)
def test_a_process_loads_only_what_it_needs(modules: str, unwanted: str) -> None:
    code = f"import sys, {modules}; assert {unwanted!r} not in sys.modules, 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_engine_knows_no_onnx_and_no_triton() -> None:
    for path in (PACKAGE / "engine").glob("*.py"):
        assert not {"onnx", "onnxruntime", "tritonclient", "triton_python_backend_utils"} & {
            name.partition(".")[0] for name in imported(path)
        }, path
