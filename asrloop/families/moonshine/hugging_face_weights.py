"""Reads the weights of a Moonshine of any size from a Hugging Face checkpoint: ``config.json`` and ``model.safetensors``."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.families.moonshine.weights import DecoderLayer, EncoderLayer, MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.layer import Array, Attention, Linear

CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"


def read(directory: Path) -> MoonshineWeights:
    """Read the checkpoint in ``directory``. Raises ValueError when it is no Moonshine or a tensor is missing."""
    config = _config(directory / CONFIG_FILE)
    tensors = _Tensors(directory / TENSOR_FILE)
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
                attention=tensors.attention(f"{name}.self_attn"),
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
                attention=tensors.attention(f"{name}.self_attn"),
                cross_norm=tensors[f"{name}.post_attention_layernorm.weight"],
                cross_attention=tensors.attention(f"{name}.encoder_attn"),
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


class _Tensors:
    """Tensors of a safetensors file by name, as f32. The format is the length of a JSON header (u64), the header with every
    tensor's type, shape and place, and the tensors' bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        self._header = header
        self._data = memoryview(data)[8 + length :]

    def get(self, name: str) -> Array | None:
        return self[name] if name in self._header else None

    def __getitem__(self, name: str) -> Array:
        if name not in self._header:
            raise ValueError(f"{self.path} has no tensor {name!r}; is it a Moonshine checkpoint?")
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        return _as_float(self._data[begin:end], entry["dtype"], name).reshape(entry["shape"])

    def linear(self, name: str) -> Linear:
        """Read a layer; checkpoints store ``[outputs, inputs]``."""
        return Linear(np.ascontiguousarray(self[f"{name}.weight"].T), self.get(f"{name}.bias"))

    def attention(self, name: str) -> Attention:
        return Attention(*(self.linear(f"{name}.{part}_proj") for part in "qkvo"))


def _as_float(data: memoryview, dtype: str, name: str) -> Array:
    if dtype == "F32":
        return np.frombuffer(data, "<f4").astype(np.float32)
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if dtype == "BF16":  # the upper half of an f32
        bits: NDArray[np.uint32] = np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32)
    raise ValueError(f"tensor {name!r} has type {dtype}; F32, F16 and BF16 are supported")
