"""Opens a prepared transducer: reads ``family.json`` and puts graphs, vocabulary and the greedy loop together."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.family import FamilyInfo
from asrloop.families.transducer.decoders import SplitDecoder, TransducerDecoder, WholeDecoder
from asrloop.families.transducer.greedy import INFO, Transducer, TransducerRules
from asrloop.onnx_files.sessions import Graphs, open_graph

FAMILY = "transducer"

MEL, ENCODER, DECODER, VOCABULARY, NUMBERS = "mel.onnx", "encoder.onnx", "decoder.onnx", "vocab.txt", "family.json"
"""Files of a prepared model."""

SPLIT = {part: f"{part}.onnx" for part in ("frames", "prediction", "joint", "prediction_joint")}
"""Parts of the decoder, present when ``family.json`` says ``split``."""

ENCODER_FILES = "encoder_files"
"""Key of ``family.json``: names of the encoder's file and of those with its weights."""

OPENED_TWICE_BYTES = 256_000_000
"""Size of the largest encoder that is opened a second time, so that one thread each encodes utterances side by side."""

BLANK = "<blk>"


def open_transducer(
    directory: Path,
    *,
    slots: int,
    max_audio_seconds: float,
    encoder_threads: int,
    decoder_threads: int,
    graphs: Graphs | None = None,
    info: FamilyInfo = INFO,
) -> Transducer:
    """Open the files that ``build`` makes.

    ``encoder_threads`` encode an utterance that is alone, and any utterance where the encoder is too large to be opened twice;
    else utterances in company are encoded by one thread each. ``graphs`` may have an ``encoder`` and a ``decoder`` that run the
    same graphs elsewhere; then those files are not opened.
    """
    graphs = graphs or {}
    settings = json.loads((directory / NUMBERS).read_text(encoding="utf-8"))
    mel = open_graph(directory / MEL, threads=1, memory_arena=False)
    encoder, encoder_alone = graphs.get("encoder"), None
    if encoder is None:
        twice = _encoder_bytes(directory, settings) <= OPENED_TWICE_BYTES
        info = replace(info, encodes_side_by_side=info.encodes_side_by_side and twice)
        encoder = open_graph(directory / ENCODER, threads=1 if twice else encoder_threads, memory_arena=False)
        if twice and encoder_threads > 1:
            encoder_alone = open_graph(directory / ENCODER, threads=encoder_threads, memory_arena=False)
    sizes = decoder_sizes(settings, slots)
    decoder: TransducerDecoder
    if settings["split"] and "decoder" not in graphs:
        # The frames' part is run while others are encoded and stepped, and the other parts by who steps.
        frames = open_graph(directory / SPLIT["frames"], threads=1)
        prediction, joint, prediction_joint = (
            open_graph(directory / SPLIT[part], threads=decoder_threads)
            for part in ("prediction", "joint", "prediction_joint")
        )
        decoder = SplitDecoder(frames, prediction, joint, prediction_joint, **sizes)
    else:
        whole = graphs.get("decoder") or open_graph(directory / DECODER, threads=decoder_threads)
        decoder = WholeDecoder(whole, **sizes)
    rules = TransducerRules(
        vocabulary=read_vocabulary(directory / VOCABULARY),
        blank=settings["blank"],
        has_durations=settings["durations"] > 0,
        max_tokens_per_frame=settings["max_tokens_per_frame"],
        seconds_per_frame=settings["seconds_per_frame"],
        window=settings["window"],
    )
    most = round(max_audio_seconds * SAMPLE_RATE)
    return Transducer(rules, mel, encoder, decoder, slots, most, encoder_alone=encoder_alone, info=info)


def _encoder_bytes(directory: Path, settings: Mapping[str, Any]) -> int:
    """Return the size of the encoder with its weights; for a model that does not name their files, the size of all files."""
    names = settings.get(ENCODER_FILES) or [path.name for path in directory.iterdir()]
    return sum((directory / name).stat().st_size for name in names)


def decoder_sizes(settings: Mapping[str, Any], slots: int) -> dict[str, Any]:
    """Return the arguments that both kinds of decoder take, from the content of ``family.json``."""
    return {
        "slots": slots,
        "state_shapes": [(layers, width) for layers, width in settings["state_shapes"]],
        "targets_dtype": np.dtype(settings["targets_dtype"]),
        "blank": settings["blank"],
    }


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Return pieces by token id from lines ``piece id``. Raises ValueError naming the line or the id at fault."""
    pieces: dict[int, str] = {}
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            piece, separator, token = line.rstrip("\r\n").rpartition(" ")
            if not separator or not token.isdecimal():
                raise ValueError(f"{path}: line {number} is {line!r}; it must be a piece, a space and its id")
            pieces[int(token)] = piece
    if sorted(pieces) != list(range(len(pieces))) or BLANK not in pieces.values():
        raise ValueError(
            f"{path}: ids must run from 0 to {len(pieces) - 1} without a gap and {BLANK} must be one of the pieces"
        )
    return tuple(pieces[token] for token in range(len(pieces)))
