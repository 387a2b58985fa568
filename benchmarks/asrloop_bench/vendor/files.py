"""Puts the files of each baseline model into its folder: the vendor's graphs and vocabulary, the project's prepared model."""

import os
from pathlib import Path

import onnx

from asrloop import paths
from asrloop.families.moonshine.decoding import DECODER, ENCODER, VOCABULARY
from asrloop.onnx_files.ort_format import to_onnx
from asrloop.paths import link_or_copy
from asrloop.wheels import MOONSHINE_MODEL, moonshine_assets
from asrloop_bench.checkout import LADDER_MODELS, PREPARED

VENDOR_LOOP = LADDER_MODELS / "vendor_loop" / "1"
"""Folder with both graphs of the vendor and its vocabulary."""


def prepare() -> Path:
    """Make the vendor's graphs where they are missing, and put each model's files into its folder. Returns the repository.

    Raises WheelError, and OSError where the project's own model was not made.
    """
    vendor = moonshine_assets(paths.cache()) / MOONSHINE_MODEL
    for name, source in ((ENCODER, "encoder_model.ort"), (DECODER, "decoder_model_merged.ort")):
        graph = LADDER_MODELS / f"vendor_{Path(name).stem}" / "1" / "model.onnx"
        if not graph.is_file():
            partial = graph.with_suffix(".part")
            onnx.save(to_onnx(vendor / source), partial)
            partial.replace(graph)
        put(graph, VENDOR_LOOP / name)
    for model in ("vendor_loop", "vendor_loop_bls"):
        put(vendor / VOCABULARY, LADDER_MODELS / model / "1" / VOCABULARY)
    mirror(PREPARED, LADDER_MODELS / "clean_loop" / "1")
    return LADDER_MODELS


def mirror(prepared: Path, folder: Path) -> None:
    """Make ``folder`` hold the files of the prepared model and no other; its ``model.py`` stays its own."""
    wanted = {path.name: path for path in _files(prepared)}
    for old in _files(folder):
        if old.name not in wanted:
            old.unlink()
    for name, path in wanted.items():
        put(path, folder / name)


def put(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy of it where links fail. Does nothing where it is one already."""
    if target.exists():
        there, here = target.stat(), source.stat()
        if os.path.samestat(there, here) or (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns):
            return
    partial = target.with_name(f".{target.name}.part")
    partial.unlink(missing_ok=True)
    link_or_copy(source, partial)
    partial.replace(target)


def _files(folder: Path) -> list[Path]:
    """Return the files of a prepared model: all but the code and hidden files."""
    return [path for path in folder.iterdir() if path.is_file() and path.suffix != ".py" and path.name[0] != "."]
