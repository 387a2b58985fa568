"""Two ways to drive a transducer: as the engine does, with utterances that come and go, and by the book, frame by frame."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.families import offline
from asrloop.families.offline import DecodedTokens
from asrloop.families.transducer.greedy import Transducer

Samples = NDArray[np.float32]


def decode(
    family: Transducer, utterances: Sequence[Samples], slots: int, arrivals_per_step: int = 1
) -> list[DecodedTokens]:
    """Each utterance decoded in one of ``slots``; in every step at most ``arrivals_per_step`` new ones join."""
    encoded = (family.encode(samples) for samples in utterances)
    return offline.decode(family, encoded, slots=slots, arrivals_per_step=arrivals_per_step)


@functools.cache
def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def decode_by_the_book(directory: Path, family: Transducer, samples: Samples) -> DecodedTokens:
    """One utterance, one call of the unsplit graphs a frame or token, all states as the papers write them."""
    encoder, decoder_joint = (_session(directory / f"{name}-model.onnx") for name in ("encoder", "decoder_joint"))
    mel = family.mel({"waveforms": samples[None], "waveforms_lens": np.array([len(samples)])})
    inputs: Any = {"audio_signal": mel["features"], "length": mel["features_lens"]}
    outputs, (length,) = encoder.run(["outputs", "encoded_lengths"], inputs)
    rules = family.rules
    shapes = {value.name: value.shape for value in decoder_joint.get_inputs()}
    h, c = (
        np.zeros((shapes[name][0], 1, shapes[name][2]), np.float32) for name in ("input_states_1", "input_states_2")
    )
    decoded, last, frame, here = DecodedTokens([], []), rules.blank, 0, 0
    while frame < length:
        logits, after_h, after_c = decoder_joint.run(
            ["outputs", "output_states_1", "output_states_2"],
            {
                "encoder_outputs": outputs[:, :, frame : frame + 1],
                "targets": np.array([[last]], np.int32),
                "target_length": np.array([1], np.int32),
                "input_states_1": h,
                "input_states_2": c,
            },
        )
        scores = logits.reshape(-1)
        token = int(scores[: len(rules.vocabulary)].argmax())
        duration = int(scores[len(rules.vocabulary) :].argmax()) if rules.has_durations else 0
        if token != rules.blank:
            decoded.tokens.append(token)
            decoded.times.append(frame * rules.seconds_per_frame)
            last, h, c = token, after_h, after_c
            here += 1
        if duration == 0 and (token == rules.blank or here == rules.max_tokens_per_frame):
            duration = 1
        if duration:
            frame, here = frame + duration, 0
    return decoded
