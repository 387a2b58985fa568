"""Writes a trained transducer as the directory that onnx-asr publishes for NeMo models."""

import json
from pathlib import Path

import torch
from torch import nn

from asrloop_train.network import DecoderJoint, Encoder
from asrloop_train.vocabulary import BLANK, VOCABULARY

OPSET = 17


def write(directory: Path, encoder: Encoder, decoder_joint: DecoderJoint) -> None:
    """Write ``encoder-model.onnx``, ``decoder_joint-model.onnx``, ``vocab.txt`` and ``config.json`` into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    bands, width = encoder.bands, encoder.width
    states = torch.zeros(decoder_joint.lstm.num_layers, 2, decoder_joint.lstm.hidden_size)
    batch = {0: "batch"}
    _export(
        encoder,
        (torch.zeros(2, bands, 80), torch.tensor([80, 40])),
        directory / "encoder-model.onnx",
        inputs={"audio_signal": {**batch, 2: "features"}, "length": batch},
        outputs={"outputs": {**batch, 2: "frames"}, "encoded_lengths": batch},
    )
    tokens = torch.full((2, 1), BLANK, dtype=torch.int32)
    _export(
        decoder_joint,
        (torch.zeros(2, width, 3), tokens, torch.ones(2, dtype=torch.int32), states, states),
        directory / "decoder_joint-model.onnx",
        inputs={
            "encoder_outputs": {**batch, 2: "frames"},
            "targets": {**batch, 1: "tokens"},
            "target_length": batch,
            "input_states_1": {1: "batch"},
            "input_states_2": {1: "batch"},
        },
        outputs={
            "outputs": {**batch, 1: "frames", 2: "tokens"},
            "prednet_lengths": batch,
            "output_states_1": {1: "batch"},
            "output_states_2": {1: "batch"},
        },
    )
    lines = (f"{token} {index}\n" for index, token in enumerate(VOCABULARY))
    (directory / "vocab.txt").write_text("".join(lines), encoding="utf-8")
    config = {"model_type": "nemo-conformer-tdt", "features_size": bands, "subsampling_factor": 8}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _export(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    path: Path,
    inputs: dict[str, dict[int, str]],
    outputs: dict[str, dict[int, str]],
) -> None:
    """Trace ``module`` to ONNX. The tracing exporter needs no package but onnx and writes small plain graphs."""
    torch.onnx.export(
        module.eval(),
        example,
        str(path),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=inputs | outputs,
        opset_version=OPSET,
        dynamo=False,
    )
    module.train()
