"""Reads the weights of a Moonshine of any size from a Hugging Face checkpoint: ``config.json`` and ``model.safetensors``."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from asrloop.families.checkpoints.safetensors import Tensors
from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.layer import Attention, DecoderLayer, EncoderLayer, Linear

CONFIG_FILE = "config.json"


def read(directory: Path) -> MoonshineWeights:
    """Read the checkpoint in ``directory``. Raises ValueError when it is no Moonshine or a tensor is missing."""
    config = _config(directory / CONFIG_FILE)
    tensors = Tensors(directory, "Moonshine")
    embedding = tensors["model.decoder.embed_tokens.weight"]
    head = tensors.get("proj_out.weight")
    return MoonshineWeights(
        config=config,
        conv1=tensors["model.encoder.conv1.weight"],
        group_norm_scale=tensors["model.encoder.groupnorm.weight"],
        group_norm_bias=tensors["model.encoder.groupnorm.bias"],
        conv2=tensors["model.encoder.conv2.weight"],
        conv2_bias=tensors["model.encoder.conv2.bias"],
        conv3=tensors["model.encoder.conv3.weight"],
        conv3_bias=tensors["model.encoder.conv3.bias"],
        encoder_layers=tuple(
            EncoderLayer(
                attention_norm=tensors[f"{name}.input_layernorm.weight"],
                attention=_attention(tensors, f"{name}.self_attn"),
                mlp_norm=tensors[f"{name}.post_attention_layernorm.weight"],
                fc1=tensors.linear(f"{name}.mlp.fc1"),
                fc2=tensors.linear(f"{name}.mlp.fc2"),
            )
            for name in (f"model.encoder.layers.{index}" for index in range(config.encoder_layers))
        ),
        encoder_norm=tensors["model.encoder.layer_norm.weight"],
        embedding=embedding,
        decoder_layers=tuple(
            DecoderLayer(
                attention_norm=tensors[f"{name}.input_layernorm.weight"],
                attention=_attention(tensors, f"{name}.self_attn"),
                cross_norm=tensors[f"{name}.post_attention_layernorm.weight"],
                cross_attention=_attention(tensors, f"{name}.encoder_attn"),
                mlp_norm=tensors[f"{name}.final_layernorm.weight"],
                fc1=tensors.linear(f"{name}.mlp.fc1"),
                fc2=tensors.linear(f"{name}.mlp.fc2"),
            )
            for name in (f"model.decoder.layers.{index}" for index in range(config.decoder_layers))
        ),
        decoder_norm=tensors["model.decoder.norm.weight"],
        head=Linear(np.ascontiguousarray((embedding if head is None else head).T)),
    )


def _config(path: Path) -> MoonshineConfig:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if values.get("model_type") != "moonshine":
        raise ValueError(f"{path} describes model_type {values.get('model_type')!r}, not 'moonshine'")
    heads = values["encoder_num_attention_heads"]
    for name in ("decoder_num_attention_heads", "encoder_num_key_value_heads", "decoder_num_key_value_heads"):
        other = values.get(name)
        if other is not None and other != heads:
            raise ValueError(f"{path}: {name} is {other}; only models with {heads} heads everywhere are supported")
    rope: dict[str, Any] = values.get("rope_parameters") or {}
    factor = values.get("partial_rotary_factor", rope.get("partial_rotary_factor", 0.9))
    head_size = values["hidden_size"] // heads
    return MoonshineConfig(
        hidden_size=values["hidden_size"],
        heads=heads,
        encoder_layers=values["encoder_num_hidden_layers"],
        decoder_layers=values["decoder_num_hidden_layers"],
        vocabulary_size=values["vocab_size"],
        rotary_size=int(head_size * factor) // 2 * 2,
        rotary_base=values.get("rope_theta", rope.get("rope_theta", 10000.0)),
        bos=values["bos_token_id"],
        eos=values["eos_token_id"],
    )


def _attention(tensors: Tensors, name: str) -> Attention:
    return Attention(*(tensors.linear(f"{name}.{part}_proj") for part in "qkvo"))
