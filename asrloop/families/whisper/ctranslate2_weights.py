"""Reads a Whisper that CTranslate2's converter wrote: ``model.bin`` and ``config.json``, what users of faster-whisper have.

``model.bin`` is u32 version, string name of the specification, u32 revision, u32 number of variables; each variable its name, u8
rank, u32 dimensions, u8 type, u32 bytes and the data; then u32 number of aliases, pairs of names. A string is u16 length and as
many bytes, the last of them 0.
"""

import mmap
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.families.checkpoints.safetensors import bfloat16
from asrloop.families.quantize.layer import Array, Attention, Linear
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.whisper.source import MULTILINGUAL_SIZE, Shaped, Tokens, json_object, tokens_of
from asrloop.families.whisper.weights import (
    RawDecoderLayer,
    RawEncoderLayer,
    WhisperConfig,
    WhisperWeights,
    folded_decoder_layer,
    folded_encoder_layer,
)

MODEL_FILE, CONFIG_FILE = "model.bin", "config.json"
VERSIONS = range(4, 7)
TYPES = ("<f4", "i1", "<i2", "<i4", "<f2", "bf16")
"""By the number of the type."""

_AGAIN = "fetch the model again"


class CTranslate2Source:
    """Implements :class:`asrloop.families.whisper.source.Source`."""

    def __init__(self, directory: Path) -> None:
        """Open the model in ``directory``. Raises FileNotFoundError, and ValueError for what is no such model."""
        self._directory = directory
        self._values = _Variables(directory / MODEL_FILE)
        self._settings = json_object(directory / CONFIG_FILE)
        values = self._values
        shape = values["encoder/conv1/weight"].shape
        if len(shape) != 3:
            raise ValueError(
                f"{directory / MODEL_FILE}: variable 'encoder/conv1/weight' has shape {list(shape)}, not three numbers; {_AGAIN}"
            )
        hidden, mels, _ = shape
        decoder_layers, heads = values.layers("decoder"), values.heads("decoder", hidden)
        self.config = WhisperConfig(
            hidden_size=hidden,
            encoder_heads=values.heads("encoder", hidden),
            decoder_heads=heads,
            encoder_layers=values.layers("encoder"),
            decoder_layers=decoder_layers,
            mels=mels,
            vocabulary_size=len(values["decoder/embeddings/weight"]),
            frames=len(values["encoder/position_encodings/encodings"]),
            positions=len(values["decoder/position_encodings/encodings"]),
            alignment_heads=alignment_heads(
                self._settings.get("alignment_heads"), decoder_layers, heads, directory / CONFIG_FILE
            ),
        )

    def weights(self) -> WhisperWeights:
        config, hidden = self.config, self.config.hidden_size
        read = Shaped(self._values.__getitem__, self._directory / MODEL_FILE, "the rest of it")
        encoder_norm = read.norm("encoder/layer_norm/gamma", "encoder/layer_norm/beta", hidden)
        decoder_norm = read.norm("decoder/layer_norm/gamma", "decoder/layer_norm/beta", hidden)
        embedding = read("decoder/embeddings/weight", config.vocabulary_size, hidden)
        return WhisperWeights(
            config=config,
            conv1=read("encoder/conv1/weight", hidden, config.mels, 3),
            conv1_bias=read("encoder/conv1/bias", hidden),
            conv2=read("encoder/conv2/weight", hidden, hidden, 3),
            conv2_bias=read("encoder/conv2/bias", hidden),
            encoder_positions=read("encoder/position_encodings/encodings", config.frames, hidden),
            encoder_layers=tuple(
                folded_encoder_layer(
                    RawEncoderLayer(
                        attention_norm=_norm(read, f"{name}/self_attention/layer_norm", hidden),
                        attention=_self_attention(read, f"{name}/self_attention", hidden),
                        mlp_norm=_norm(read, f"{name}/ffn/layer_norm", hidden),
                        fc1=_linear(read, f"{name}/ffn/linear_0", hidden, 4 * hidden),
                        fc2=_linear(read, f"{name}/ffn/linear_1", 4 * hidden, hidden),
                    )
                )
                for name in (f"encoder/layer_{index}" for index in range(config.encoder_layers))
            ),
            encoder_norm=encoder_norm.scale,
            embedding=embedding,
            positions=read("decoder/position_encodings/encodings", config.positions, hidden),
            decoder_layers=tuple(
                folded_decoder_layer(
                    RawDecoderLayer(
                        attention_norm=_norm(read, f"{name}/self_attention/layer_norm", hidden),
                        attention=_self_attention(read, f"{name}/self_attention", hidden),
                        cross_norm=_norm(read, f"{name}/attention/layer_norm", hidden),
                        cross_attention=_cross_attention(read, f"{name}/attention", hidden),
                        mlp_norm=_norm(read, f"{name}/ffn/layer_norm", hidden),
                        fc1=_linear(read, f"{name}/ffn/linear_0", hidden, 4 * hidden),
                        fc2=_linear(read, f"{name}/ffn/linear_1", 4 * hidden, hidden),
                    ),
                    encoder_norm,
                )
                for name in (f"decoder/layer_{index}" for index in range(config.decoder_layers))
            ),
            decoder_norm=decoder_norm.scale,
            decoder_norm_bias=decoder_norm.bias,
            head=Linear(np.ascontiguousarray(read("decoder/projection/weight", *embedding.shape).T)),
        )

    def vocabulary(self) -> tuple[Vocabulary, Tokens]:
        size = self.config.vocabulary_size
        return tokens_of(
            self._directory,
            size,
            self._settings.get("suppress_ids"),
            self._settings.get("suppress_ids_begin"),
            multilingual=size >= MULTILINGUAL_SIZE,
        )


def alignment_heads(given: object, layers: int, heads: int, path: Path) -> tuple[tuple[int, int], ...]:
    """Return the heads that a file names, or else all of the later half of the layers. Raises ValueError."""
    if not given:
        return tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads))
    try:
        found = tuple((int(layer), int(head)) for layer, head in given)  # type: ignore[attr-defined]  # checked by trying
    except (TypeError, ValueError):
        raise ValueError(f"{path}: alignment_heads are no pairs of layer and head; {_AGAIN}") from None
    for layer, head in found:
        if not (0 <= layer < layers and 0 <= head < heads):
            raise ValueError(
                f"{path}: alignment_heads has layer {layer}, head {head}; the weights have {layers} layers of {heads} heads: "
                f"they do not belong together; {_AGAIN}"
            )
    return found


def _norm(read: Shaped, name: str, size: int) -> Any:
    return read.norm(f"{name}/gamma", f"{name}/beta", size)


def _linear(read: Shaped, name: str, inputs: int, outputs: int) -> Linear:
    return read.linear(f"{name}/weight", inputs, outputs, bias=f"{name}/bias")


def _self_attention(read: Shaped, name: str, size: int) -> Attention:
    """Read query, key and value, which stand side by side, and the output."""
    query, key, value = _parts(_linear(read, f"{name}/linear_0", size, 3 * size), 3)
    return Attention(query, key, value, _linear(read, f"{name}/linear_1", size, size))


def _cross_attention(read: Shaped, name: str, size: int) -> Attention:
    """Read the query, key and value, which stand side by side, and the output."""
    query = _linear(read, f"{name}/linear_0", size, size)
    key, value = _parts(_linear(read, f"{name}/linear_1", size, 2 * size), 2)
    return Attention(query, key, value, _linear(read, f"{name}/linear_2", size, size))


def _parts(layer: Linear, count: int) -> list[Linear]:
    biases = [None] * count if layer.bias is None else np.split(layer.bias, count)
    matrices = np.split(layer.matrix, count, axis=1)
    return [Linear(np.ascontiguousarray(matrix), bias) for matrix, bias in zip(matrices, biases, strict=True)]


class _Variables:
    """Variables of ``model.bin`` by name, as f32; integers are divided by their scale."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {_AGAIN}, with all its files")
        self._path = path
        self._found: dict[str, tuple[tuple[int, ...], int, memoryview]] = {}
        size = path.stat().st_size
        with path.open("rb") as file:
            self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
        self._at = 0
        version = self._number("I")
        if version not in VERSIONS:
            raise ValueError(
                f"{path} has version {version}; {VERSIONS[0]} to {VERSIONS[-1]} are supported: convert the model again with "
                "ct2-transformers-converter"
            )
        if (name := self._string()) != "WhisperSpec":
            raise ValueError(f"{path} holds a {name:.80}, not a WhisperSpec: it is no Whisper model")
        self._number("I")  # the revision
        for _ in range(self._number("I")):
            self._read_variable()
        self._aliases = {self._string(): self._string() for _ in range(self._number("I"))}

    def __getitem__(self, name: str) -> Array:
        name = self._aliases.get(name, name)
        shape, kind, data = self._variable(name)
        if TYPES[kind] == "bf16":
            return bfloat16(np.frombuffer(data, "<u2")).reshape(shape)
        stored: NDArray[Any] = np.frombuffer(data, TYPES[kind])
        values = stored.astype(np.float32).reshape(shape)
        if stored.dtype.kind == "f":
            return values
        scale = self[f"{name}_scale"]
        return values / scale.reshape(scale.shape + (1,) * (values.ndim - scale.ndim))

    def layers(self, part: str) -> int:
        """Return the number of layers of ``part``."""
        found = {int(match[1]) for name in self._found if (match := re.match(rf"{part}/layer_(\d+)/", name))}
        if found != set(range(len(found))) or not found:
            raise ValueError(f"{self._path} has layers {sorted(found)} of the {part}: some are missing; {_AGAIN}")
        return len(found)

    def heads(self, part: str, hidden: int) -> int:
        """Return the number of heads of ``part``, which must divide ``hidden``."""
        _, kind, data = self._variable(f"{part}/num_heads")
        heads = int(np.frombuffer(data, TYPES[kind])[0]) if len(data) and TYPES[kind] != "bf16" else 0
        if heads < 1 or hidden % heads:
            raise ValueError(f"{self._path}: {part}/num_heads is {heads}, which does not divide {hidden}; {_AGAIN}")
        return heads

    def _variable(self, name: str) -> tuple[tuple[int, ...], int, memoryview]:
        if name not in self._found:
            raise ValueError(f"{self._path} has no variable {name!r}: is it a whole Whisper model? {_AGAIN}")
        return self._found[name]

    def _read_variable(self) -> None:
        name = self._string()
        shape = tuple(self._number("I") for _ in range(self._number("B")))
        kind = self._number("B")
        data = self._take(self._number("I"))
        if kind >= len(TYPES):
            known = ", ".join(f"{number} ({each.strip('<')})" for number, each in enumerate(TYPES))
            raise ValueError(f"{self._path}: variable {name!r} has type {kind}; known are {known}")
        width = 2 if TYPES[kind] == "bf16" else np.dtype(TYPES[kind]).itemsize
        if len(data) != int(np.prod(shape, dtype=np.int64)) * width:
            raise ValueError(f"{self._path}: variable {name!r} of shape {list(shape)} has {len(data)} bytes; {_AGAIN}")
        self._found[name] = shape, kind, data

    def _number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self._take(struct.calcsize(f"<{kind}")))[0])

    def _string(self) -> str:
        return bytes(self._take(self._number("H"))).rstrip(b"\0").decode("utf-8", "replace")

    def _take(self, count: int) -> memoryview:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError(
                f"{self._path} ends at byte {len(self._data)}, within its variables: it was cut short; {_AGAIN}"
            )
        self._at += count
        return taken
