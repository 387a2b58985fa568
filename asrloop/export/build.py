"""Writes the encoder and decoder graphs, the vocabulary and ``family.json`` into a model repository."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from asrloop.export import ort_weights
from asrloop.export.linear import Float32
from asrloop.export.moonshine_decoder import cache_head_size, cross_head_size, decoder_step
from asrloop.export.moonshine_encoder import STRIDES, encoder, minimum_samples
from asrloop.families.moonshine import MoonshineNumbers
from asrloop.vocabulary import Vocabulary

TOKENS_PER_SECOND = 6.5
PRECISIONS = ("fp32",)


def _silent(message: str) -> None:
    pass


def build(
    source: Path,
    repository: Path,
    *,
    precision: str = "fp32",
    speech: Sequence[Path] | None = None,
    progress: Callable[[str], None] = _silent,
) -> None:
    """Make ``repository/encoder/1`` and ``repository/decoder/1`` from the model in ``source``.

    ``source`` holds the ``.ort`` files and ``tokenizer.bin`` of the moonshine-voice package. Each file appears whole or not
    at all; an interrupted build is mended by running it again. ``progress`` gets one line a stage.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    progress(f"reading weights from {source}")
    weights = ort_weights.read(source)
    vocabulary = Vocabulary.read_binary(source / "tokenizer.bin")
    config = weights.config
    numbers = MoonshineNumbers(
        precision=precision,
        vocabulary_size=config.vocabulary_size,
        heads=config.heads,
        decoder_layers=config.decoder_layers,
        cache_head_size=cache_head_size(config),
        cross_head_size=cross_head_size(config),
        cross_type="float32",
        bos=config.bos,
        eos=config.eos,
        minimum_samples=minimum_samples(),
        samples_per_frame=STRIDES[0] * STRIDES[1] * STRIDES[2],
        tokens_per_second=TOKENS_PER_SECOND,
    )
    progress("writing encoder")
    _write(repository / "encoder" / "1" / "model.onnx", encoder(weights, Float32()).SerializeToString())
    progress("writing decoder")
    decoder_directory = repository / "decoder" / "1"
    _write(decoder_directory / "model.onnx", decoder_step(weights, Float32(), Float32()).SerializeToString())
    _write(decoder_directory / "tokenizer.bin", vocabulary.to_bytes())
    description = {"family": "moonshine", **dataclasses.asdict(numbers)}
    _write(decoder_directory / "family.json", (json.dumps(description, indent=2) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    """Write through a temporary file beside ``path``, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
