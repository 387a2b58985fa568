"""Folders of CTranslate2 and Hugging Face: every way to store numbers gives the same model, and what is wrong is named."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asrloop.families.whisper.build import opened
from asrloop.families.whisper.weights import WhisperWeights
from tests.families.whisper.folders import MULTILINGUAL, TURBO, HuggingFaceFolder, random_tensors, write_ctranslate2

SMALL = MULTILINGUAL
ENGLISH_SIZED = TURBO


def read(folder: Path) -> WhisperWeights:
    return opened(folder).weights()


def apart(one: WhisperWeights, other: WhisperWeights) -> float:
    """The greatest difference of what is compared."""
    pairs = [
        (one.conv2, other.conv2),
        (one.embedding, other.embedding),
        (one.positions, other.positions),
        (one.head.matrix, other.head.matrix),
        (one.encoder_layers[-1].fc2.matrix, other.encoder_layers[-1].fc2.matrix),
        (one.encoder_layers[0].attention.query.bias, other.encoder_layers[0].attention.query.bias),
        (one.decoder_layers[0].cross_attention.value.matrix, other.decoder_layers[0].cross_attention.value.matrix),
        (one.decoder_layers[-1].attention.output.bias, other.decoder_layers[-1].attention.output.bias),
    ]
    return max(float(np.abs(np.asarray(first) - np.asarray(second)).max()) for first, second in pairs)


@pytest.mark.parametrize(
    ("kind", "most"), [(0, 1e-6), (4, 5e-3), (5, 0.05), (1, 0.1), (2, 0.05)], ids=["f32", "f16", "bf16", "s8", "s16"]
)
def test_ctranslate2_stores_numbers_in_five_ways(kind: int, most: float, tmp_path: Path) -> None:
    tensors = random_tensors(TURBO)
    theirs = read(HuggingFaceFolder(TURBO, tensors).write(tmp_path / "hugging-face"))
    ours = read(write_ctranslate2(tmp_path / "ctranslate2", TURBO, tensors, kind))
    assert ours.config == theirs.config
    assert apart(ours, theirs) < most


@pytest.mark.parametrize(("dtype", "parts"), [("F32", 3), ("F16", 1), ("BF16", 2)])
def test_hugging_face_stores_them_in_three_and_in_parts(dtype: str, parts: int, tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    whole = read(HuggingFaceFolder(SMALL, tensors).write(tmp_path / "whole"))
    other = read(HuggingFaceFolder(SMALL, tensors, dtype, parts).write(tmp_path / "other"))
    assert apart(whole, other) < {"F32": 1e-6, "F16": 5e-3, "BF16": 0.05}[dtype]


def test_tokens_of_both_are_the_same(tmp_path: Path) -> None:
    tensors = random_tensors(TURBO)
    theirs = opened(HuggingFaceFolder(TURBO, tensors, generation={"is_multilingual": False}).write(tmp_path / "one"))
    ours = opened(write_ctranslate2(tmp_path / "other", TURBO, tensors))
    assert list(ours.vocabulary()[0]) == list(theirs.vocabulary()[0])
    assert ours.vocabulary()[1] == theirs.vocabulary()[1]


def test_a_vocabulary_of_two_files_does_as_well(tmp_path: Path) -> None:
    folder = HuggingFaceFolder(SMALL, random_tensors(SMALL)).write(tmp_path)
    expected = opened(folder).vocabulary()
    document = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(document["model"]["vocab"]))
    (folder / "added_tokens.json").write_text(
        json.dumps({one["content"]: one["id"] for one in document["added_tokens"]})
    )
    found = opened(folder).vocabulary()
    assert (list(found[0]), found[1]) == (list(expected[0]), expected[1])


def cut(name: str, share: float) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return spoil


def change(name: str, **values: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return spoil


def tensor(**values: object) -> Callable[[Path], None]:
    """Spoil what the header says of a tensor."""

    def spoil(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        header["model.encoder.conv1.bias"] |= values
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.bin").unlink(), "holds neither model.bin .*nor model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "has none of vocabulary.json, .*tokenizer.json"),
        (lambda folder: (folder / "vocabulary.json").write_text('["a", "b"]'), r"has no token <\|endoftext\|>"),
        (lambda folder: (folder / "vocabulary.json").write_text("{"), "vocabulary.json is no list of tokens"),
        (
            lambda folder: (folder / "vocabulary.json").write_text(json.dumps(["a"] * 999)),
            "tokens up to 998, the weights have",
        ),
        (lambda folder: (folder / "model.bin").write_bytes(b""), "it was cut short"),
        (lambda folder: (folder / "model.bin").write_bytes(b"\x63" * 100), "has version 1667457891"),
        (cut("model.bin", 0.5), "it was cut short"),
        (cut("model.bin", 0.99999), "it was cut short"),
        (
            change("config.json", alignment_heads=[[7, 0]]),
            "alignment_heads has layer 7, head 0; the weights have 2 layers",
        ),
        (change("config.json", alignment_heads="last"), "alignment_heads are no pairs"),
        (change("config.json", suppress_ids=[70_000]), "token 70000 is suppressed"),
        (change("config.json", suppress_ids=5), "suppressed tokens are 5, not a list"),
        (change("config.json", suppress_ids_begin=True), "suppressed tokens are True, not a list"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json holds no JSON object"),
    ],
)
def test_a_spoilt_ctranslate2_folder_is_refused(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = write_ctranslate2(tmp_path, SMALL, random_tensors(SMALL))
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_all(folder)


def test_another_specification_and_an_unknown_type_are_refused(tmp_path: Path) -> None:
    folder = write_ctranslate2(tmp_path, SMALL, random_tensors(SMALL))
    data = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(data.replace(b"WhisperSpec", b"WhimperSpec"))
    with pytest.raises(ValueError, match="holds a WhimperSpec, not a WhisperSpec"):
        opened(folder)
    at = data.index(b"decoder/num_heads\0") + len(b"decoder/num_heads\0") + 1
    (folder / "model.bin").write_bytes(data[:at] + b"\x09" + data[at + 1 :])
    with pytest.raises(ValueError, match="'decoder/num_heads' has type 9; known are 0"):
        opened(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("config.json", model_type="moonshine"), "model_type 'moonshine', not 'whisper'"),
        (
            change("config.json", num_mel_bins=128),
            r"conv1.weight' has shape \[32, 80, 3\], config.json says \[32, 128, 3\]",
        ),
        (change("config.json", decoder_layers=3), "has no tensor 'model.decoder.layers.2.self_attn_layer_norm.weight'"),
        (change("config.json", d_model="many"), "d_model is 'many'; it must be a positive number"),
        (change("config.json", encoder_attention_heads=5), "encoder_attention_heads, 5, does not divide"),
        (change("config.json", activation_function="relu"), "activation_function is 'relu'"),
        (change("config.json", vocab_size=9000), r"has shape \[\d+, 32\], config.json says \[9000, 32\]"),
        (cut("model.safetensors", 0.5), "it was cut short"),
        (cut("model.safetensors", 0.0), "it was cut short"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x05" + b"\0" * 20), "its header cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has none of"),
        (change("generation_config.json", suppress_tokens="none"), "suppressed tokens are 'none', not a list"),
        (
            change("tokenizer.json", added_tokens=[{"id": "x", "content": "y"}]),
            "tokenizer.json is no list of tokens",
        ),
        (
            change("tokenizer.json", added_tokens=[{"id": -3, "content": "y"}]),
            "tokenizer.json has a token -3: they count from 0",
        ),
        (tensor(dtype=["F32"]), "model.safetensors is no safetensors file: its header cannot be read"),
        (tensor(shape=["a"]), "model.safetensors is no safetensors file: its header cannot be read"),
        (tensor(shape=[-1, -1]), "model.safetensors is no safetensors file: its header cannot be read"),
        (tensor(data_offsets=[0]), "model.safetensors is no safetensors file: its header cannot be read"),
        (tensor(data_offsets=[0, 7]), r"'model.encoder.conv1.bias' of shape \[32\] has 7 bytes, it needs 128"),
    ],
)
def test_a_spoilt_hugging_face_folder_is_refused(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = HuggingFaceFolder(SMALL, random_tensors(SMALL)).write(tmp_path)
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_all(folder)


def test_an_unknown_number_type_and_a_missing_part_are_refused(tmp_path: Path) -> None:
    folder = HuggingFaceFolder(SMALL, random_tensors(SMALL), dtype="F8_E4M3").write(tmp_path / "type")
    with pytest.raises(ValueError, match="has type F8_E4M3; F32, F16 and BF16 are supported"):
        read(folder)
    folder = HuggingFaceFolder(SMALL, random_tensors(SMALL), parts=2).write(tmp_path / "parts")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002\.safetensors is missing"):
        read(folder)


def read_all(folder: Path) -> None:
    source = opened(folder)
    source.vocabulary()
    source.weights()
