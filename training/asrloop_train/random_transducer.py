"""Transducers with random weights of any size, in the layout that onnx-asr publishes. Their text has no meaning, but it has
blanks, tokens and all durations, so that two decoders of the same directory can be compared."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

BANDS = 128


class Sizes(NamedTuple):
    """Sizes of a transducer; the defaults are those of Parakeet TDT 0.6B v2."""

    encoder_width: int = 1024
    layers: int = 2
    state_width: int = 640
    joint_width: int = 640
    vocabulary: int = 1025
    """Number of tokens, including the blank, which is the last."""

    durations: int = 5
    """Number of durations; 0 makes an RNN-T."""


PARAKEET = Sizes()

# Subsampling 8 like a conformer's, but with one convolution: each frame sees 90 ms of speech.
_ENCODER = """
<ir_version: 8, opset_import: ["" : 17]>
encoder (float[batch, 128, features] audio_signal, int64[batch] length)
    => (float[batch, width, frames] outputs, int64[batch] encoded_lengths) {
  convolved = Conv <strides = [8], pads = [4, 4]> (audio_signal, kernel)
  outputs = Tanh (convolved)
  one = Constant <value = int64 {1}> ()
  eight = Constant <value = int64 {8}> ()
  before = Sub (length, one)
  whole = Div (before, eight)
  encoded_lengths = Add (whole, one)
}
"""

_DECODER_JOINT_HEAD = """
<ir_version: 8, opset_import: ["" : 17]>
decoder_joint (float[batch, encoder_width, frames] encoder_outputs, int32[batch, tokens] targets, int32[batch] target_length,
               float[layers, batch, state_width] input_states_1, float[layers, batch, state_width] input_states_2)
    => (float[batch, frames, tokens, scores] outputs, int32[batch] prednet_lengths,
        float[layers, batch, state_width] output_states_1, float[layers, batch, state_width] output_states_2) {
  prednet_lengths = Identity (target_length)
  embedded = Gather (embedding, targets)
  hidden_0 = Transpose <perm = [1, 0, 2]> (embedded)
  direction = Constant <value = int64[1] {1}> ()
"""

_LSTM_LAYER = """
  index_@ = Constant <value = int64[1] {@}> ()
  h_@ = Gather (input_states_1, index_@)
  c_@ = Gather (input_states_2, index_@)
  all_@, after_h_@, after_c_@ = LSTM <hidden_size = HIDDEN> (hidden_@, w_@, r_@, b_@, , h_@, c_@)
  hidden_NEXT = Squeeze (all_@, direction)
"""

_DECODER_JOINT_TAIL = """
  output_states_1 = Concat <axis = 0> (AFTER_H)
  output_states_2 = Concat <axis = 0> (AFTER_C)
  predicted = Transpose <perm = [1, 0, 2]> (hidden_LAST)
  token_part = MatMul (predicted, token_projection)
  speech = Transpose <perm = [0, 2, 1]> (encoder_outputs)
  speech_part = MatMul (speech, speech_projection)
  frames_axis = Constant <value = int64[1] {2}> ()
  tokens_axis = Constant <value = int64[1] {1}> ()
  speech_4d = Unsqueeze (speech_part, frames_axis)
  token_4d = Unsqueeze (token_part, tokens_axis)
  joined = Add (speech_4d, token_4d)
  active = Relu (joined)
  scores = MatMul (active, output_weight)
  outputs = Add (scores, output_bias)
}
"""


def write(directory: Path, sizes: Sizes = PARAKEET, *, blank_share: float = 0.6, seed: int = 0) -> None:
    """Write a transducer for which about ``blank_share`` of all decisions are blanks."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    kernel = _random(generator, (sizes.encoder_width, BANDS, 9), BANDS * 9)
    encoder = _with_weights(_ENCODER, {"kernel": kernel})
    encoder.graph.output[0].type.tensor_type.shape.dim[1].dim_value = sizes.encoder_width
    decoder_joint = _with_weights(_decoder_joint_text(sizes), _decoder_joint_weights(sizes, generator))
    for value in [*decoder_joint.graph.input, *decoder_joint.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in ("encoder_width", "layers", "state_width"):
                dim.dim_value = getattr(sizes, dim.dim_param)
    _raise_blank(decoder_joint, sizes, blank_share, generator)
    onnx.save(encoder, directory / "encoder-model.onnx")
    onnx.save(decoder_joint, directory / "decoder_joint-model.onnx")
    pieces = ["<unk>", *(f"\u2581w{token}" for token in range(1, sizes.vocabulary - 1)), "<blk>"]
    (directory / "vocab.txt").write_text("".join(f"{p} {i}\n" for i, p in enumerate(pieces)), encoding="utf-8")
    config = {
        "model_type": "nemo-conformer-tdt" if sizes.durations else "nemo-conformer-rnnt",
        "features_size": BANDS,
        "subsampling_factor": 8,
    }
    (directory / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")


def _decoder_joint_text(sizes: Sizes) -> str:
    layers = [
        _LSTM_LAYER.replace("@", str(layer)).replace("NEXT", str(layer + 1)).replace("HIDDEN", str(sizes.state_width))
        for layer in range(sizes.layers)
    ]
    tail = _DECODER_JOINT_TAIL.replace("LAST", str(sizes.layers))
    tail = tail.replace("AFTER_H", ", ".join(f"after_h_{layer}" for layer in range(sizes.layers)))
    tail = tail.replace("AFTER_C", ", ".join(f"after_c_{layer}" for layer in range(sizes.layers)))
    return _DECODER_JOINT_HEAD + "".join(layers) + tail


def _decoder_joint_weights(sizes: Sizes, generator: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    state, joint, scores = sizes.state_width, sizes.joint_width, sizes.vocabulary + sizes.durations
    weights = {
        "embedding": generator.standard_normal((sizes.vocabulary, state), np.float32),
        "speech_projection": _random(generator, (sizes.encoder_width, joint), sizes.encoder_width),
        "token_projection": _random(generator, (state, joint), state) * np.float32(2.0),
        "output_weight": _random(generator, (joint, scores), joint),
        "output_bias": np.zeros(scores, np.float32),
    }
    for layer in range(sizes.layers):
        weights[f"w_{layer}"] = _random(generator, (1, 4 * state, state), state)
        weights[f"r_{layer}"] = _random(generator, (1, 4 * state, state), state)
        weights[f"b_{layer}"] = np.zeros((1, 8 * state), np.float32)
    return weights


def _raise_blank(model: onnx.ModelProto, sizes: Sizes, share: float, generator: np.random.Generator) -> None:
    """Set the bias of the blank's score so that it is the highest in ``share`` of random inputs."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    batch, frames = 16, 32
    state = (generator.uniform(-0.5, 0.5, (sizes.layers, batch, sizes.state_width))).astype(np.float32)
    inputs = {
        "encoder_outputs": np.tanh(generator.standard_normal((batch, sizes.encoder_width, frames), np.float32)),
        "targets": generator.integers(0, sizes.vocabulary - 1, (batch, 1)).astype(np.int32),
        "target_length": np.ones(batch, np.int32),
        "input_states_1": state,
        "input_states_2": state,
    }
    scores = session.run(["outputs"], inputs)[0].reshape(batch * frames, -1)
    blank = sizes.vocabulary - 1
    bias = np.zeros(scores.shape[1], np.float32)
    bias[blank] = np.quantile(scores[:, :blank].max(1) - scores[:, blank], share)
    for initializer in model.graph.initializer:
        if initializer.name == "output_bias":
            initializer.CopyFrom(numpy_helper.from_array(bias, "output_bias"))


def _with_weights(text: str, weights: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def _random(generator: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> NDArray[np.float32]:
    return generator.standard_normal(shape, np.float32) / np.float32(np.sqrt(fan_in))
