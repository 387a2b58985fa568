"""Writes the encoder and decoder graphs, the vocabulary and ``family.json`` of a Moonshine model into a model repository."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asrloop.export import hugging_face_weights, ort_weights
from asrloop.export.moonshine_decoder import cache_head_size, cross_head_size
from asrloop.export.moonshine_encoder import STRIDES, minimum_samples
from asrloop.export.precision import DEFAULT, graphs
from asrloop.export.weights import Array, MoonshineConfig, MoonshineWeights
from asrloop.families.moonshine import SAMPLE_RATE, MoonshineNumbers
from asrloop.vocabulary import Vocabulary

TOKENS_PER_SECOND = 6.5
SPEECH = ("beckett.wav", "two_cities.wav", "endgame_nagg_nell.wav")
"""The recordings in the moonshine-voice package, one directory above its model."""


def _silent(message: str) -> None:
    pass


def build(
    source: Path,
    repository: Path,
    *,
    precision: str = DEFAULT,
    speech: Sequence[Path] | None = None,
    progress: Callable[[str], None] = _silent,
) -> None:
    """Make ``repository/encoder/1`` and ``repository/decoder/1`` from the model in the directory ``source``.

    ``source`` holds either the ``.ort`` files and ``tokenizer.bin`` of the moonshine-voice package, or a Hugging Face
    checkpoint (``config.json``, ``model.safetensors``, ``tokenizer.json``). ``speech`` are recordings that the integer
    recipes are calibrated on; by default the package's own beside ``source``. Each file appears whole or not at all, so an
    interrupted build is mended by running it again. ``progress`` gets a line a stage.

    Raises FileNotFoundError when ``source`` holds neither kind of model or the speech is missing, and ValueError for an
    unknown ``precision`` or files that do not fit together.
    """
    progress(f"reading weights from {source}")
    weights, vocabulary = read(source)
    recordings = [] if precision == "fp32" else _recordings(source, speech)
    progress(f"writing graphs, precision {precision}")
    made = graphs(weights, precision, recordings)
    progress(f"saving models to {repository}")
    description = {"family": "moonshine", **dataclasses.asdict(_numbers(weights.config, precision, made.cross_type))}
    decoder_directory = repository / "decoder" / "1"
    _save(repository / "encoder" / "1" / "model.onnx", made.encoder.SerializeToString())
    _save(decoder_directory / "model.onnx", made.decoder.SerializeToString())
    _save(decoder_directory / "tokenizer.bin", vocabulary.to_bytes())
    _save(decoder_directory / "family.json", (json.dumps(description, indent=2) + "\n").encode())


def read(source: Path) -> tuple[MoonshineWeights, Vocabulary]:
    """Weights and vocabulary of either kind of model directory."""
    if (source / ort_weights.DECODER_FILE).is_file():
        return ort_weights.read(source), Vocabulary.read_binary(source / "tokenizer.bin")
    if (source / hugging_face_weights.CONFIG_FILE).is_file():
        return hugging_face_weights.read(source), Vocabulary.read_hugging_face(source / "tokenizer.json")
    raise FileNotFoundError(
        f"{source} holds neither {ort_weights.DECODER_FILE} (moonshine-voice package) nor "
        f"{hugging_face_weights.CONFIG_FILE} (Hugging Face checkpoint)"
    )


def _recordings(source: Path, speech: Sequence[Path] | None) -> list[Array]:
    paths = [source.parent / name for name in SPEECH] if speech is None else list(speech)
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise FileNotFoundError(
            f"speech to calibrate on is missing: {', '.join(map(str, missing)) or 'none given'}; name recordings of about a "
            "minute or more, or choose precision fp32"
        )
    return [_recording(path) for path in paths]


def _recording(path: Path) -> Array:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE), np.float32)


def _numbers(config: MoonshineConfig, precision: str, cross_type: str) -> MoonshineNumbers:
    return MoonshineNumbers(
        precision=precision,
        vocabulary_size=config.vocabulary_size,
        heads=config.heads,
        decoder_layers=config.decoder_layers,
        cache_head_size=cache_head_size(config),
        cross_head_size=cross_head_size(config),
        cross_type=cross_type,
        bos=config.bos,
        eos=config.eos,
        minimum_samples=minimum_samples(),
        samples_per_frame=STRIDES[0] * STRIDES[1] * STRIDES[2],
        tokens_per_second=TOKENS_PER_SECOND,
    )


def _save(path: Path, data: bytes) -> None:
    """Write through a temporary file beside ``path``, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
