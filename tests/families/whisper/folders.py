"""Folders with random models of any shape, in the formats that are read. Nothing is downloaded."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Sizes of a small model. 256 tokens are the bytes, 40 more are text, then come those that steer."""

    hidden: int = 32
    encoder_heads: int = 4
    decoder_heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    mels: int = 80
    frames: int = 1500
    positions: int = 448
    languages: tuple[str, ...] = ("en", "zh", "de")
    timestamps: int = 20

    @property
    def names(self) -> list[str]:
        """What each token is written as."""
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        written = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
        words = [
            "Ġt",
            "he",
            "Ġthe",
            "in",
            "er",
            "Ġa",
            "on",
            "re",
            "at",
            "nd",
            "Ġw",
            "or",
            "is",
            "es",
            "en",
            "ou",
            "it",
            "ar",
        ]
        special = [
            "<|endoftext|>",
            "<|startoftranscript|>",
            *(f"<|{code}|>" for code in self.languages),
            "<|translate|>",
        ]
        special += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
        return [*(written[byte] for byte in range(256)), *words, *special]

    @property
    def size(self) -> int:
        return len(self.names) + self.timestamps

    def token(self, name: str) -> int:
        return self.names.index(name)

    @property
    def heads_that_align(self) -> list[list[int]]:
        return [[self.decoder_layers - 1, 0], [self.decoder_layers - 1, 1]]


MULTILINGUAL = Shape()
TURBO = Shape(encoder_layers=3, decoder_layers=1, mels=128, encoder_heads=2, decoder_heads=4)


def random_tensors(shape: Shape, seed: int = 0) -> dict[str, Array]:
    """By the names of Hugging Face."""
    generator = np.random.default_rng(seed)

    def made(*sizes: int, scale: float) -> Array:
        return np.asarray(generator.standard_normal(sizes) * scale, np.float32)

    hidden = shape.hidden
    found: dict[str, Array] = {}
    for part, layers in (("encoder", shape.encoder_layers), ("decoder", shape.decoder_layers)):
        for index in range(layers):
            name = f"model.{part}.layers.{index}"
            for attention in ("self_attn", "encoder_attn")[: 1 if part == "encoder" else 2]:
                for each in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    found[f"{name}.{attention}.{each}.weight"] = made(hidden, hidden, scale=1.5 * hidden**-0.5)
                    if each != "k_proj":
                        found[f"{name}.{attention}.{each}.bias"] = made(hidden, scale=0.3)
                _add_norm(found, f"{name}.{attention}_layer_norm", generator, hidden)
            _add_norm(found, f"{name}.final_layer_norm", generator, hidden)
            for each, outputs, inputs in (("fc1", 4 * hidden, hidden), ("fc2", hidden, 4 * hidden)):
                found[f"{name}.{each}.weight"] = made(outputs, inputs, scale=1.5 * inputs**-0.5)
                found[f"{name}.{each}.bias"] = made(outputs, scale=0.3)
        _add_norm(found, f"model.{part}.layer_norm", generator, hidden)
    for name, inputs in (("conv1", shape.mels), ("conv2", hidden)):
        found[f"model.encoder.{name}.weight"] = made(hidden, inputs, 3, scale=1.5 * (3 * inputs) ** -0.5)
        found[f"model.encoder.{name}.bias"] = made(hidden, scale=0.3)
    found["model.encoder.embed_positions.weight"] = made(shape.frames, hidden, scale=0.3)
    found["model.decoder.embed_positions.weight"] = made(shape.positions, hidden, scale=1.0)
    found["model.decoder.embed_tokens.weight"] = made(
        shape.size, hidden, scale=0.3
    )  # else each token says itself again
    return found


def _add_norm(found: dict[str, Array], name: str, generator: np.random.Generator, size: int) -> None:
    found[f"{name}.weight"] = np.asarray(1 + 0.2 * generator.standard_normal(size), np.float32)
    found[f"{name}.bias"] = np.asarray(0.3 * generator.standard_normal(size), np.float32)


@dataclass
class HuggingFaceFolder:
    """Writes a checkpoint; what a test changes beforehand is written as it is."""

    shape: Shape
    tensors: dict[str, Array]
    dtype: str = "F32"
    parts: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        shape = self.shape
        config = {
            "model_type": "whisper",
            "d_model": shape.hidden,
            "encoder_attention_heads": shape.encoder_heads,
            "decoder_attention_heads": shape.decoder_heads,
            "encoder_layers": shape.encoder_layers,
            "decoder_layers": shape.decoder_layers,
            "encoder_ffn_dim": 4 * shape.hidden,
            "decoder_ffn_dim": 4 * shape.hidden,
            "num_mel_bins": shape.mels,
            "vocab_size": shape.size,
            "max_source_positions": shape.frames,
            "max_target_positions": shape.positions,
            "activation_function": "gelu",
        }
        generation = {
            "is_multilingual": bool(shape.languages),
            "suppress_tokens": [1, 2, 7],
            "begin_suppress_tokens": [32, shape.token("<|endoftext|>")],
            "alignment_heads": shape.heads_that_align,
        }
        _write_json(folder / "config.json", config | self.config)
        _write_json(folder / "generation_config.json", generation | self.generation)
        special = range(shape.token("<|endoftext|>"), len(shape.names))
        added = [{"id": token, "content": shape.names[token], "special": True} for token in special]
        vocabulary = {name: token for token, name in enumerate(shape.names) if token not in special}
        _write_json(folder / "tokenizer.json", {"model": {"vocab": vocabulary, "merges": []}, "added_tokens": added})
        names = list(self.tensors)
        if self.parts == 1:
            write_safetensors(folder / "model.safetensors", self.tensors, self.dtype)
            return folder
        where = {}
        for part in range(self.parts):
            file = f"model-{part + 1:05}-of-{self.parts:05}.safetensors"
            some = names[part :: self.parts]
            write_safetensors(folder / file, {name: self.tensors[name] for name in some}, self.dtype)
            where |= dict.fromkeys(some, file)
        _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
        return folder


def write_safetensors(path: Path, tensors: Mapping[str, Array], dtype: str = "F32") -> None:
    header: dict[str, Any] = {}
    data = b""
    for name, values in tensors.items():
        stored = stored_as(values, {"F32": 0, "F16": 4, "BF16": 5}.get(dtype, 0))
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_ctranslate2(
    folder: Path, shape: Shape, tensors: Mapping[str, Array], kind: int = 0, config: Mapping[str, Any] | None = None
) -> Path:
    """Write what CTranslate2's converter does; ``kind`` is the number of the type of the linear layers."""
    folder.mkdir(parents=True, exist_ok=True)
    variables: dict[str, tuple[Sequence[int], int, bytes]] = {
        "encoder/num_heads": ((), 2, struct.pack("<h", shape.encoder_heads)),
        "decoder/num_heads": ((), 2, struct.pack("<h", shape.decoder_heads)),
    }

    def add(name: str, values: Array, *, rounded: bool = False) -> None:
        if rounded and kind in (1, 2):
            flat = values.reshape(len(values), -1)
            scale = np.asarray(127 / np.abs(flat).max(axis=1) if kind == 1 else 1024 / np.abs(flat).max(), np.float32)
            integers = np.rint(flat * (scale[:, None] if kind == 1 else scale)).reshape(values.shape)
            variables[name] = values.shape, kind, integers.astype("i1" if kind == 1 else "<i2").tobytes()
            variables[f"{name}_scale"] = scale.shape, 0, scale.tobytes()
            return
        stored = 0 if kind in (1, 2) else kind
        variables[name] = values.shape, stored, stored_as(values, stored)

    def add_linear(name: str, *sources: str) -> None:
        add(f"{name}/weight", np.concatenate([tensors[f"{source}.weight"] for source in sources]), rounded=True)
        biases = [tensors.get(f"{source}.bias", np.zeros(shape.hidden, np.float32)) for source in sources]
        add(f"{name}/bias", np.concatenate(biases))

    def add_norm(name: str, source: str) -> None:
        add(f"{name}/gamma", tensors[f"{source}.weight"])
        add(f"{name}/beta", tensors[f"{source}.bias"])

    for part, layers in (("encoder", shape.encoder_layers), ("decoder", shape.decoder_layers)):
        for index in range(layers):
            name, source = f"{part}/layer_{index}", f"model.{part}.layers.{index}"
            own = f"{source}.self_attn"
            add_linear(f"{name}/self_attention/linear_0", f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj")
            add_linear(f"{name}/self_attention/linear_1", f"{own}.out_proj")
            add_norm(f"{name}/self_attention/layer_norm", f"{own}_layer_norm")
            if part == "decoder":
                cross = f"{source}.encoder_attn"
                add_linear(f"{name}/attention/linear_0", f"{cross}.q_proj")
                add_linear(f"{name}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
                add_linear(f"{name}/attention/linear_2", f"{cross}.out_proj")
                add_norm(f"{name}/attention/layer_norm", f"{cross}_layer_norm")
            add_linear(f"{name}/ffn/linear_0", f"{source}.fc1")
            add_linear(f"{name}/ffn/linear_1", f"{source}.fc2")
            add_norm(f"{name}/ffn/layer_norm", f"{source}.final_layer_norm")
        add_norm(f"{part}/layer_norm", f"model.{part}.layer_norm")
        add(f"{part}/position_encodings/encodings", tensors[f"model.{part}.embed_positions.weight"])
    for name in ("conv1", "conv2"):
        add(f"encoder/{name}/weight", tensors[f"model.encoder.{name}.weight"], rounded=True)
        add(f"encoder/{name}/bias", tensors[f"model.encoder.{name}.bias"])
    add("decoder/embeddings/weight", tensors["model.decoder.embed_tokens.weight"], rounded=True)
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    if kind in (1, 2):
        aliases["decoder/projection/weight_scale"] = "decoder/embeddings/weight_scale"
    out = struct.pack("<I", 6) + _string("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, (sizes, stored, data) in variables.items():
        out += (
            _string(name)
            + struct.pack(f"<B{len(sizes)}I", len(sizes), *sizes)
            + struct.pack("<BI", stored, len(data))
            + data
        )
    out += struct.pack("<I", len(aliases)) + b"".join(_string(alias) + _string(name) for alias, name in aliases.items())
    (folder / "model.bin").write_bytes(out)
    settings = {
        "alignment_heads": shape.heads_that_align,
        "suppress_ids": [1, 2, 7],
        "suppress_ids_begin": [32, shape.token("<|endoftext|>")],
    }
    _write_json(folder / "config.json", settings | dict(config or {}))
    _write_json(folder / "vocabulary.json", [*shape.names, *(f"<|{at * 0.02:.2f}|>" for at in range(shape.timestamps))])
    return folder


def stored_as(values: Array, kind: int) -> bytes:
    """Floating point numbers by CTranslate2's number of the type."""
    if kind == 5:
        return (values.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
    return values.astype({0: "<f4", 4: "<f2"}[kind]).tobytes()


def _string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
