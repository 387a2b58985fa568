"""Writes the encoder and decoder graphs, the vocabulary and ``family.json`` of a Whisper model into a directory."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from asrloop import paths
from asrloop.cores import usable_cores
from asrloop.engine.options import TRANSCRIBE, TRANSLATE
from asrloop.families.checkpoints.safetensors import INDEX_FILE, TENSOR_FILE
from asrloop.families.quantize.calibration import recordings
from asrloop.families.whisper import ctranslate2_weights, hugging_face_weights
from asrloop.families.whisper.context import silent_audio
from asrloop.families.whisper.ctranslate2_weights import CTranslate2Source
from asrloop.families.whisper.decoder_graph import sizes
from asrloop.families.whisper.decoding import DECODER, ENCODER, NUMBERS, SILENCE, VOCABULARY
from asrloop.families.whisper.hugging_face_weights import HuggingFaceSource
from asrloop.families.whisper.numbers import FAMILY, WhisperNumbers
from asrloop.families.whisper.precision import graphs
from asrloop.families.whisper.source import Source, Tokens
from asrloop.families.whisper.weights import WhisperConfig
from asrloop.onnx_files.external_data import write
from asrloop.onnx_files.sessions import Tensors, open_graph
from asrloop.wheels import MOONSHINE_SPEECH, moonshine_assets


def build(
    source: Path,
    destination: Path,
    precision: str,
    progress: Callable[[str], None],
    speech: Sequence[Path] | None = None,
) -> None:
    """Write the files that :class:`Whisper` opens into ``destination``, from the model in the directory ``source``.

    ``source`` is a CTranslate2 folder or a Hugging Face checkpoint. ``speech`` are recordings that the integer recipes are
    calibrated on; by default those in the wheel of Moonshine. ``progress`` gets a line a stage.

    Raises FileNotFoundError when ``source`` holds neither kind of model or the speech is missing, and ValueError for an
    unknown ``precision`` or files that do not fit together.
    """
    progress(f"reading weights from {source}")
    model = opened(source)
    vocabulary, tokens = model.vocabulary()
    weights = model.weights()
    heard = []
    if precision != "fp32":
        assets = None if speech is not None else moonshine_assets(paths.cache())
        heard = recordings([assets / name for name in MOONSHINE_SPEECH] if assets else list(speech or ()))
    progress(f"writing graphs, precision {precision}")
    made = graphs(weights, tokens, precision, heard)
    write(made.encoder, destination / ENCODER)
    write(made.decoder, destination / DECODER)
    np.savez(destination / SILENCE, **_silence(destination / ENCODER, weights.config.frames))
    (destination / VOCABULARY).write_bytes(vocabulary.to_bytes())
    numbers = _numbers(weights.config, tokens, precision, made.cross_type)
    multilingual = bool(tokens.languages)
    description = {
        "family": FAMILY,
        **dataclasses.asdict(numbers),
        "languages": list(tokens.languages) or ["en"],
        "tasks": [TRANSCRIBE, TRANSLATE] if multilingual else [TRANSCRIBE],
        "detects_language": multilingual,
    }
    (destination / NUMBERS).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def opened(source: Path) -> Source:
    """Open either kind of model directory."""
    if (source / ctranslate2_weights.MODEL_FILE).is_file():
        return CTranslate2Source(source)
    if (source / TENSOR_FILE).is_file() or (source / INDEX_FILE).is_file():
        return HuggingFaceSource(source)
    raise FileNotFoundError(
        f"{source} holds neither {ctranslate2_weights.MODEL_FILE} (CTranslate2, as faster-whisper has it) nor {TENSOR_FILE} or "
        f"{INDEX_FILE} (Hugging Face checkpoint with {hugging_face_weights.CONFIG_FILE})"
    )


def _silence(encoder: Path, frames: int) -> Tensors:
    """Return the cross K/V of silent audio of full length."""
    return open_graph(encoder, threads=usable_cores())({"audio": silent_audio(frames)[None]})


def _numbers(config: WhisperConfig, tokens: Tokens, precision: str, cross_type: str) -> WhisperNumbers:
    decoder = sizes(config, tokens, cross_type)
    return WhisperNumbers(
        precision=precision,
        decoder=dataclasses.asdict(decoder),
        frames=config.frames,
        positions=config.positions,
        eot=tokens.eot,
        sot=tokens.sot,
        no_timestamps=tokens.no_timestamps,
        previous=tokens.previous,
        transcribe=tokens.transcribe,
        translate=tokens.translate,
        language_tokens=dict(tokens.languages),
    )
