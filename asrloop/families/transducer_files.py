"""Opens a prepared transducer: reads ``family.json`` and puts graphs, vocabulary and the greedy loop together."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.families.transducer import Transducer, TransducerRules
from asrloop.families.transducer_decoder import Run, SplitDecoder, TransducerDecoder, WholeDecoder
from asrloop.ort_session import open_session

FAMILY = "transducer"

MODEL = "model.onnx"
MEL = "mel.onnx"
FAMILY_JSON = "family.json"
VOCABULARY = "vocab.txt"
SPLIT = {part: f"{part}.onnx" for part in ("frames", "prediction", "joint", "prediction_joint")}
"""Parts of ``decoder/1/model.onnx``, present when ``family.json`` says ``split``."""

BLANK = "<blk>"


def open_transducer(
    encoder_directory: Path,
    decoder_directory: Path,
    *,
    slots: int,
    encoder_threads: int,
    decoder_threads: int,
    encoder_call: Run | None = None,
    decoder_call: Run | None = None,
    max_audio_seconds: float = math.inf,
) -> Transducer:
    """The family on ONNX Runtime sessions of this process, or on calls of the two ``model.onnx`` wherever they run.

    With calls, only the feature front-end runs in this process. Frames are kept at their own length, so that no buffer is
    sized by ``max_audio_seconds``.
    """
    del max_audio_seconds
    settings = json.loads((decoder_directory / FAMILY_JSON).read_text(encoding="utf-8"))
    vocabulary = read_vocabulary(decoder_directory / VOCABULARY)
    mel = graph_run(open_session(encoder_directory / MEL, threads=1, memory_arena=False))
    encoder = encoder_call or graph_run(
        open_session(encoder_directory / MODEL, threads=encoder_threads, memory_arena=False)
    )
    sizes = decoder_sizes(settings, slots)
    decoder: TransducerDecoder
    if settings["split"] and decoder_call is None:
        # The frames' part is run by the encoding thread, the others by the step thread.
        frames = graph_run(open_session(decoder_directory / SPLIT["frames"], threads=encoder_threads))
        prediction, joint, prediction_joint = (
            graph_run(open_session(decoder_directory / SPLIT[part], threads=decoder_threads))
            for part in ("prediction", "joint", "prediction_joint")
        )
        decoder = SplitDecoder(frames, prediction, joint, prediction_joint, **sizes)
    else:
        whole = decoder_call or graph_run(open_session(decoder_directory / MODEL, threads=decoder_threads))
        decoder = WholeDecoder(whole, **sizes)
    rules = TransducerRules(
        vocabulary=vocabulary,
        blank=settings["blank"],
        has_durations=settings["durations"] > 0,
        max_tokens_per_frame=settings["max_tokens_per_frame"],
        seconds_per_frame=settings["seconds_per_frame"],
        window=settings["window"],
    )
    return Transducer(rules, mel, encoder, decoder, slots)


def graph_run(session: ort.InferenceSession) -> Run:
    """The session as a function of named arrays."""
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def decoder_sizes(settings: Mapping[str, Any], slots: int) -> dict[str, Any]:
    """The arguments that both kinds of decoder take, from the content of ``family.json``."""
    return {
        "slots": slots,
        "state_shapes": [(layers, width) for layers, width in settings["state_shapes"]],
        "targets_dtype": np.dtype(settings["targets_dtype"]),
        "blank": settings["blank"],
    }


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Pieces by token id from lines ``piece id``; raises ValueError naming the line or the id at fault."""
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
