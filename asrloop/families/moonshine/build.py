"""Writes the encoder and decoder graphs, the vocabulary and ``family.json`` of a Moonshine model into a directory."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from asrloop.families.moonshine import hugging_face_weights, ort_weights
from asrloop.families.moonshine.decoder_graph import cache_head_size, cross_head_size
from asrloop.families.moonshine.decoding import (
    DECODER,
    ENCODER,
    FAMILY,
    NUMBERS,
    TOKENS_IN_FIRST_SECOND,
    TOKENS_PER_SECOND,
    VOCABULARY,
    MoonshineNumbers,
)
from asrloop.families.moonshine.encoder_graph import STRIDES, minimum_samples
from asrloop.families.moonshine.precision import graphs
from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.calibration import recordings
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.wheels import MOONSHINE_SPEECH


def build(
    source: Path,
    destination: Path,
    precision: str,
    progress: Callable[[str], None],
    speech: Sequence[Path] | None = None,
) -> None:
    """Write the files that :class:`Moonshine` opens into ``destination``, from the model in the directory ``source``.

    ``source`` holds either the ``.ort`` files and ``tokenizer.bin`` of the moonshine-voice package, or a Hugging Face
    checkpoint (``config.json``, ``model.safetensors``, ``tokenizer.json``). ``speech`` are recordings that the integer
    recipes are calibrated on; by default the package's own, one directory above ``source``. ``progress`` gets a line a
    stage.

    Raises FileNotFoundError when ``source`` holds neither kind of model or the speech is missing, and ValueError for an
    unknown ``precision`` or files that do not fit together.
    """
    progress(f"reading weights from {source}")
    weights, vocabulary = read(source)
    spoken = [source.parent / name for name in MOONSHINE_SPEECH] if speech is None else list(speech)
    heard = [] if precision == "fp32" else recordings(spoken)
    progress(f"writing graphs, precision {precision}")
    made = graphs(weights, precision, heard)
    description = {"family": FAMILY, **dataclasses.asdict(_numbers(weights.config, precision, made.cross_type))}
    (destination / ENCODER).write_bytes(made.encoder.SerializeToString())
    (destination / DECODER).write_bytes(made.decoder.SerializeToString())
    (destination / VOCABULARY).write_bytes(vocabulary.to_bytes())
    (destination / NUMBERS).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def read(source: Path) -> tuple[MoonshineWeights, Vocabulary]:
    """Read weights and vocabulary from either kind of model directory."""
    if (source / ort_weights.DECODER_FILE).is_file():
        return ort_weights.read(source), Vocabulary.read_binary(source / VOCABULARY)
    if (source / hugging_face_weights.CONFIG_FILE).is_file():
        return hugging_face_weights.read(source), Vocabulary.read_hugging_face(source / "tokenizer.json")
    raise FileNotFoundError(
        f"{source} holds neither {ort_weights.DECODER_FILE} (moonshine-voice package) nor "
        f"{hugging_face_weights.CONFIG_FILE} (Hugging Face checkpoint)"
    )


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
        head_size=config.head_size,
        alignment_heads=[list(pair) for pair in config.alignment_heads],
        tokens_in_first_second=TOKENS_IN_FIRST_SECOND,
        tokens_per_second=TOKENS_PER_SECOND,
    )
