"""Prepares a NeMo transducer directory (Parakeet TDT or RNN-T): graphs, parts of the decoder, numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from asrloop.audio import SAMPLE_RATE
from asrloop.families.features.mel import HOP, build_mel
from asrloop.families.transducer import nemo_directory, split_joint
from asrloop.families.transducer import opening as files
from asrloop.families.transducer.decoders import Floats, SplitDecoder, TransducerDecoder, WholeDecoder
from asrloop.families.transducer.nemo_directory import NemoDirectory, NemoDirectoryError
from asrloop.onnx_files.external_data import external_data
from asrloop.onnx_files.sessions import Graph, session_graph

WINDOW = 8
"""Frames that one call of the joint network looks at."""

# Larger differences than float32 rounding over a thousand terms mean that two graphs compute different things.
_TOLERANCE = 1e-3


def build(source: Path, destination: Path, precision: str, progress: Callable[[str], None]) -> None:
    """Write the files that ``open_transducer`` opens into ``destination``. Raises NemoDirectoryError.

    Encoder and decoder are copied unchanged, with the weights that lie beside the encoder; ``mel.onnx`` is the directory's own
    or ours; the parts of the decoder (see ``split_joint``) are added where they compute the same. Every graph is run once, so
    that the files are known to work together. ``precision`` is fp32, as the files are.
    """
    progress(f"reading the models of {source}, precision {precision}")
    directory = nemo_directory.read(source)
    decoder_joint = onnx.load(source / nemo_directory.DECODER_JOINT)
    run = _in_memory(decoder_joint, source / nemo_directory.DECODER_JOINT)
    settings = _settings(directory, run)
    progress("splitting the decoder and comparing the parts with the whole")
    parts = _split(decoder_joint, run, settings, directory.encoder_width)
    settings |= {"split": parts is not None, "window": _window(run, settings, directory.encoder_width)}
    _check_encoder(directory)

    weights = external_data(source / nemo_directory.ENCODER)
    settings[files.ENCODER_FILES] = [files.ENCODER, *(data.name for data in weights)]
    for data in weights:
        shutil.copyfile(data, destination / data.name)
    shutil.copyfile(source / nemo_directory.ENCODER, destination / files.ENCODER)
    own_mel = source / f"nemo{directory.bands}.onnx"
    if own_mel.is_file():
        shutil.copyfile(own_mel, destination / files.MEL)
    else:
        onnx.save(build_mel(directory.bands), destination / files.MEL)
    onnx.save(decoder_joint, destination / files.DECODER)
    if parts is not None:
        for name, file in files.SPLIT.items():
            onnx.save(getattr(parts, name), destination / file)
    shutil.copyfile(source / nemo_directory.VOCABULARY, destination / files.VOCABULARY)
    (destination / files.NUMBERS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _settings(directory: NemoDirectory, run: Graph) -> dict[str, Any]:
    """Return the content of ``family.json`` but for the way the decoder is run."""
    settings = {
        "family": files.FAMILY,
        "vocabulary_size": len(directory.vocabulary),
        "blank": directory.blank,
        "state_shapes": directory.state_shapes,
        "targets_dtype": directory.targets_dtype,
        "max_tokens_per_frame": directory.max_tokens_per_frame,
        "seconds_per_frame": HOP / SAMPLE_RATE * directory.subsampling_factor,
    }
    path = directory.path / nemo_directory.DECODER_JOINT
    try:
        logits = _trial(WholeDecoder(run, **files.decoder_sizes(settings, 2)), [0, 1], directory.encoder_width, 1)[0]
    except Exception as error:  # whatever ONNX Runtime raises
        raise NemoDirectoryError(
            f"{path} does not run on a batch of two with the blank {settings['blank']} of {nemo_directory.VOCABULARY}: {error}; "
            "it needs a dynamic batch and its own vocabulary"
        ) from None
    durations = logits.shape[-1] - len(directory.vocabulary)
    wanted = nemo_directory.MODEL_TYPES.get(directory.model_type or "", durations > 0)
    if durations < 0 or wanted != (durations > 0):
        raise NemoDirectoryError(
            f"{path} gives {logits.shape[-1]} scores, {nemo_directory.VOCABULARY} has {len(directory.vocabulary)} pieces and "
            f"model_type is {directory.model_type!r}: RNN-T has as many of both, TDT more scores; do the files belong together?"
        )
    return settings | {"durations": durations}


def _split(
    decoder_joint: onnx.ModelProto, run: Graph, settings: dict[str, Any], width: int
) -> split_joint.SplitGraphs | None:
    """Return the parts of the graph; None where it cannot be split or the parts do not give what the whole gives."""
    sizes = files.decoder_sizes(settings, 2)
    try:
        parts = split_joint.split(decoder_joint)
        runs = [_in_memory(part, Path(name)) for name, part in zip(files.SPLIT, parts, strict=True)]
        split = _trial(SplitDecoder(*runs, **sizes), [1, 0], width, 3)
    except Exception:  # NotSplittable, or ONNX Runtime refuses a part: the whole graph serves all the same
        return None
    return parts if _agree(split, _trial(WholeDecoder(run, **sizes), [1, 0], width, 1)) else None


def _window(run: Graph, settings: dict[str, Any], width: int) -> int:
    """Return WINDOW if the graph scores several frames of one call as it scores them one by one, else 1."""
    sizes = files.decoder_sizes(settings, 2)
    one_by_one = _trial(WholeDecoder(run, **sizes), [0, 1], width, 1)
    try:
        together = _trial(WholeDecoder(run, **sizes), [0, 1], width, 3)
    except Exception:  # the graph takes one frame at a time
        return 1
    return WINDOW if _agree(together, one_by_one) else 1


def _trial(decoder: TransducerDecoder, slots: list[int], width: int, window: int) -> list[Floats]:
    """Return the scores of three random frames before and after a first token, ``window`` frames a call."""
    speech = np.random.default_rng(0).standard_normal((len(slots), 1, width, 3), np.float32)
    for slot in slots:
        decoder.begin(slot)
    frames = np.stack([decoder.frames(one) for one in speech])
    scores = []
    for token in (0, 1):
        cuts = [decoder.logits(slots, frames[:, at : at + window]) for at in range(0, 3, window)]
        scores.append(np.concatenate(cuts, axis=1))
        decoder.accept(slots, [token] * len(slots))
    return scores


def _agree(some: list[Floats], others: list[Floats]) -> bool:
    return all(
        a.shape == b.shape and np.allclose(a, b, _TOLERANCE, _TOLERANCE) for a, b in zip(some, others, strict=True)
    )


def _check_encoder(directory: NemoDirectory) -> None:
    """Run the encoder on a second of silence."""
    path = directory.path / nemo_directory.ENCODER
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        features = np.zeros((1, directory.bands, 101), np.float32)
        outputs = session.run(["outputs"], {"audio_signal": features, "length": np.array([100], np.int64)})[0]
    except Exception as error:  # whatever ONNX Runtime raises
        raise NemoDirectoryError(f"{path} does not run on {directory.bands} mel bands: {error}") from None
    if outputs.shape[1] != directory.encoder_width:
        raise NemoDirectoryError(
            f"{path} gives frames of {outputs.shape[1]}, {nemo_directory.DECODER_JOINT} takes {directory.encoder_width}; "
            "do the files belong together?"
        )


def _in_memory(model: onnx.ModelProto, path: Path) -> Graph:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a failure is told by the error alone
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session_graph(session)
    except Exception as error:  # whatever ONNX Runtime raises
        raise NemoDirectoryError(f"{path} does not load: {error}") from None
