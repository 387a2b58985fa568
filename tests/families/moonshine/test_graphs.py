"""The graphs compute what the architecture says, whichever kind of file the weights came from."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from asrloop.families import registry
from asrloop.families.moonshine import ort_weights
from asrloop.families.moonshine.build import build
from asrloop.families.moonshine.decoder_graph import cache_head_size, cross_head_size, decoder_step
from asrloop.families.moonshine.decoding import Moonshine
from asrloop.families.moonshine.encoder_graph import encoder, frame_count, minimum_samples
from asrloop.families.moonshine.precision import graphs
from asrloop.families.moonshine.smoothing import smooth
from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.offline import decode
from asrloop.families.quantize.layer import Attention, DecoderLayer, EncoderLayer, Linear
from asrloop.families.quantize.linear import Float32
from asrloop.families.quantize.observation import CrossLimit, Observation, Observations
from asrloop.families.quantize.rounding import integers
from asrloop.families.quantize.vnni import VNNI, has_vnni
from asrloop.onnx_files.graph_writer import with_outputs
from asrloop.onnx_files.ort_format import to_onnx
from tests.families.moonshine.reference import ReferenceMoonshine

Array = NDArray[np.float32]
BASE = MoonshineConfig(416, 8, encoder_layers=2, decoder_layers=2, vocabulary_size=300, rotary_size=32)
"""The widths of Moonshine base, fewer layers and words."""


@pytest.fixture(scope="module")
def weights(assets: Path) -> MoonshineWeights:
    return ort_weights.read(assets / "tiny-en")


@pytest.fixture(scope="module")
def reference(weights: MoonshineWeights) -> ReferenceMoonshine:
    return ReferenceMoonshine(weights)


def test_converted_vendor_encoder_gives_the_same_bits(assets: Path, beckett: Array) -> None:
    path = assets / "tiny-en" / "encoder_model.ort"
    fed = {"input_values": beckett[None, :32000], "attention_mask": np.ones((1, 32000), np.int64)}
    assert_same_results(path, fed)


@pytest.mark.parametrize("use_cache", [False, True])
def test_converted_vendor_decoder_gives_the_same_bits_in_both_branches(assets: Path, use_cache: bool) -> None:
    path = assets / "tiny-en" / "decoder_model_merged.ort"
    rng = np.random.default_rng(5)
    tokens, frames = (3, 82) if use_cache else (0, 0)
    fed: dict[str, Any] = {
        "encoder_attention_mask": np.ones((1, 32000), np.int64),
        "input_ids": np.array([[1]]),
        "encoder_hidden_states": rng.standard_normal((1, 82, 288), np.float32),
        "use_cache_branch": np.array([use_cache]),
    }
    for layer in range(6):
        for source, length in (("decoder", tokens), ("encoder", frames)):
            for part in ("key", "value"):
                past = rng.standard_normal((1, 8, length, 36), np.float32)
                fed[f"past_key_values.{layer}.{source}.{part}"] = past
    assert_same_results(path, fed)


def assert_same_results(path: Path, fed: dict[str, Any]) -> None:
    converted = open_model(to_onnx(path)).run(None, fed)
    for ours, vendors in zip(converted, ort.InferenceSession(path).run(None, fed), strict=True):
        np.testing.assert_array_equal(ours, vendors)


def test_a_file_that_is_no_ort_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "encoder_model.ort"
    path.write_bytes(b"this is no model")
    with pytest.raises(ValueError, match=r"encoder_model\.ort is not an ORT-format model"):
        to_onnx(path)


def test_fp32_graphs_agree_with_the_reference_on_speech(
    weights: MoonshineWeights, reference: ReferenceMoonshine, beckett: Array
) -> None:
    samples = beckett[:80000]
    states = reference.encode(samples)
    tokens = reference.greedy(states, limit=33)
    expected = reference.logits(states, [weights.config.bos, *tokens])
    logits = graph_logits(weights, samples, [weights.config.bos, *tokens])
    np.testing.assert_allclose(logits, expected, atol=5e-3)
    assert [int(row.argmax()) for row in logits] == [*tokens, weights.config.eos]


def test_base_sized_graphs_agree_with_the_reference() -> None:
    weights = random_weights(BASE)
    samples = np.random.default_rng(1).standard_normal(12000, np.float32) * np.float32(0.1)
    reference = ReferenceMoonshine(weights)
    tokens = [BASE.bos, 7, 250, 3]
    expected = reference.logits(reference.encode(samples), tokens)
    np.testing.assert_allclose(graph_logits(weights, samples, tokens), expected, atol=1e-3)


def test_hugging_face_checkpoint_gives_the_same_text(
    weights: MoonshineWeights, assets: Path, beckett: Array, tmp_path: Path
) -> None:
    checkpoint, directory = tmp_path / "checkpoint", tmp_path / "prepared"
    write_checkpoint(checkpoint, weights)
    registry.build("moonshine", checkpoint, directory, "fp32")
    family = Moonshine(directory, slots=1, max_audio_seconds=10)
    reference = ReferenceMoonshine(weights)
    samples = beckett[:32000]
    (decoded,) = decode(family, [family.encode(samples)])
    assert decoded.tokens == reference.greedy(reference.encode(samples), limit=14)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", ["int8", pytest.param(VNNI, marks=pytest.mark.skipif(not has_vnni(), reason="the CPU has no VNNI"))]
)
def test_integer_base_sized_graphs_stay_close_to_the_reference(precision: str) -> None:
    weights = random_weights(BASE)
    speech = np.random.default_rng(2).standard_normal(48000, np.float32) * np.float32(0.1)
    made = graphs(weights, precision, [speech])
    tokens = [BASE.bos, 7, 250, 3]
    reference = ReferenceMoonshine(weights)
    expected = reference.logits(reference.encode(speech[:12000]), tokens)
    logits = run_graphs(made.encoder, made.decoder, weights.config, speech[:12000], tokens)
    error = np.abs(logits - expected).mean()
    assert error < 0.1 * expected.std()


def test_smoothing_changes_nothing_in_fp32() -> None:
    weights = random_weights(BASE)
    linear = Float32()
    rng = np.random.default_rng(3)
    encoder(weights, linear)
    decoder_linear = Float32()
    decoder_step(weights, decoder_linear)

    hidden = BASE.hidden_size
    sizes = {"conv2": 7 * hidden, "conv3": 3 * 2 * hidden, "fc2": 4 * hidden}

    def seen(layers: dict[str, str], widened: dict[str, int]) -> dict[str, Observation]:
        """Random activations; ``widened`` gives the input sizes that differ from the encoder's."""
        size_of = {**sizes, **widened}
        found = {name: size_of.get(".".join(name.split(".")[1:]) or name, hidden) for name in layers}
        return {name: Observation.of(rng.standard_normal((50, size), np.float32)) for name, size in found.items()}

    encoder_seen = seen(linear.inputs, {})
    decoder_seen = seen(
        decoder_linear.inputs,
        {"attention.output": cache_head_size(BASE) * BASE.heads, "cross.output": cross_head_size(BASE) * BASE.heads},
    )
    limit = CrossLimit(*rng.uniform(1, 9, (2, hidden)).astype(np.float32))
    smoothed, _ = smooth(weights, Observations(encoder_seen, decoder_seen, [limit] * BASE.decoder_layers))
    samples = rng.standard_normal(12000, np.float32) * np.float32(0.1)
    tokens = [BASE.bos, 9, 4]
    np.testing.assert_allclose(
        graph_logits(smoothed, samples, tokens), graph_logits(weights, samples, tokens), atol=1e-3
    )


@pytest.mark.parametrize("greatest", [64, 127])
def test_rounding_serves_products_better_than_nearest_values(greatest: int) -> None:
    rng = np.random.default_rng(4)
    mixing = rng.standard_normal((8, 64))
    inputs = (rng.standard_normal((2000, 8)) @ mixing + 0.1 * rng.standard_normal((2000, 64))).astype(np.float32)
    matrix = rng.standard_normal((64, 32)).astype(np.float32)
    values, scale = integers(matrix, Observation.of(inputs).moment, greatest)
    assert np.abs(values.astype(int)).max() <= greatest
    nearest = np.round(matrix / scale) * scale
    error = np.square(inputs @ (values * scale) - inputs @ matrix).mean()
    assert error < 0.5 * np.square(inputs @ nearest - inputs @ matrix).mean()


def test_frame_count_is_what_the_encoder_makes() -> None:
    session = open_model(encoder(random_weights(BASE), Float32()))
    for samples in (minimum_samples(), minimum_samples(2) - 1, minimum_samples(2), 5000):
        keys = np.asarray(session.run(["cross_key_0"], {"audio": np.zeros((1, samples), np.float32)})[0])
        assert keys.shape[2] == frame_count(samples)
    assert frame_count(minimum_samples()) == 1
    assert frame_count(minimum_samples() - 1) < 1


def test_unknown_precision_and_empty_source_say_what_is_wrong(assets: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="precision is 'int3': there are int8-vnni, int8, int8-decoder and fp32"):
        build(assets / "tiny-en", tmp_path, "int3", print)
    with pytest.raises(FileNotFoundError, match=r"holds neither decoder_model_merged\.ort"):
        build(tmp_path, tmp_path, "fp32", print)
    with pytest.raises(FileNotFoundError, match=r"speech to calibrate on is missing: .*nowhere\.wav"):
        build(assets / "tiny-en", tmp_path, "int8", print, speech=[tmp_path / "nowhere.wav"])
    assert list(tmp_path.iterdir()) == []


def open_model(model: Any) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def graph_logits(weights: MoonshineWeights, samples: Array, tokens: list[int]) -> Array:
    return run_graphs(encoder(weights, Float32()), decoder_step(weights, Float32()), weights.config, samples, tokens)


def run_graphs(
    encoder_model: Any, decoder_model: Any, config: MoonshineConfig, samples: Array, tokens: list[int]
) -> Array:
    """Logits f32 [len(tokens), vocabulary] from the graphs by plain session.run, one token a step."""
    encoder_session, step = open_model(encoder_model), open_model(with_outputs(decoder_model, ["logits"]))
    names = [output.name for output in encoder_session.get_outputs()]
    cross = dict(zip(names, encoder_session.run(names, {"audio": samples[None]}), strict=True))
    shape = (1, config.heads, len(tokens), cache_head_size(config))
    parts = [f"{part}_{layer}" for layer in range(config.decoder_layers) for part in ("key", "value")]
    caches: dict[str, Any] = {f"past_{part}": np.zeros(shape, np.float32) for part in parts}
    frames = np.array([frame_count(samples.size)], np.int32)
    logits = []
    for length, token in enumerate(tokens):
        fed = {"tokens": np.array([[token]]), "lengths": np.array([length], np.int32), "frames": frames}
        row, *presents = step.run(["logits", *(f"present_{part}" for part in parts)], {**fed, **caches, **cross})
        caches = dict(zip(caches, presents, strict=True))
        logits.append(np.asarray(row)[0, 0, : config.vocabulary_size])
    return np.stack(logits)


def random_weights(config: MoonshineConfig) -> MoonshineWeights:
    rng = np.random.default_rng(0)
    size, inner = config.hidden_size, 4 * config.hidden_size

    def array(*shape: int, spread: float = 1.0) -> Array:
        return (rng.standard_normal(shape) * spread).astype(np.float32)

    def linear(inputs: int, outputs: int, bias: bool = False) -> Linear:
        return Linear(array(inputs, outputs, spread=inputs**-0.5), array(outputs, spread=0.1) if bias else None)

    def norm() -> Array:
        return 1 + array(size, spread=0.2)

    def attention() -> Attention:
        return Attention(*(linear(size, size) for _ in range(4)))

    head = linear(size, config.vocabulary_size)
    return MoonshineWeights(
        config=config,
        conv1=array(size, 1, 127, spread=0.1),
        group_norm_scale=norm(),
        group_norm_bias=array(size, spread=0.1),
        conv2=array(2 * size, size, 7, spread=(7 * size) ** -0.5),
        conv2_bias=array(2 * size, spread=0.1),
        conv3=array(size, 2 * size, 3, spread=(6 * size) ** -0.5),
        conv3_bias=array(size, spread=0.1),
        encoder_layers=tuple(
            EncoderLayer(norm(), attention(), norm(), linear(size, inner, True), linear(inner, size, True))
            for _ in range(config.encoder_layers)
        ),
        encoder_norm=norm(),
        embedding=np.ascontiguousarray(head.matrix.T),
        decoder_layers=tuple(
            DecoderLayer(
                norm(),
                attention(),
                norm(),
                attention(),
                norm(),
                linear(size, 2 * inner, True),
                linear(inner, size, True),
            )
            for _ in range(config.decoder_layers)
        ),
        decoder_norm=norm(),
        head=head,
    )


def write_checkpoint(directory: Path, weights: MoonshineWeights) -> None:
    """``weights`` as a Hugging Face checkpoint."""
    config = weights.config
    tensors: dict[str, Array] = {
        "model.encoder.conv1.weight": weights.conv1,
        "model.encoder.groupnorm.weight": weights.group_norm_scale,
        "model.encoder.groupnorm.bias": weights.group_norm_bias,
        "model.encoder.conv2.weight": weights.conv2,
        "model.encoder.conv2.bias": weights.conv2_bias,
        "model.encoder.conv3.weight": weights.conv3,
        "model.encoder.conv3.bias": weights.conv3_bias,
        "model.encoder.layer_norm.weight": weights.encoder_norm,
        "model.decoder.embed_tokens.weight": weights.embedding,
        "model.decoder.norm.weight": weights.decoder_norm,
    }

    def linear(name: str, layer: Linear) -> None:
        tensors[f"{name}.weight"] = np.ascontiguousarray(layer.matrix.T)
        if layer.bias is not None:
            tensors[f"{name}.bias"] = layer.bias

    def attention(name: str, projections: Attention) -> None:
        for part, layer in zip(
            "qkvo", (getattr(projections, n) for n in ("query", "key", "value", "output")), strict=True
        ):
            linear(f"{name}.{part}_proj", layer)

    for index, layer in enumerate(weights.encoder_layers):
        name = f"model.encoder.layers.{index}"
        tensors[f"{name}.input_layernorm.weight"] = layer.attention_norm
        tensors[f"{name}.post_attention_layernorm.weight"] = layer.mlp_norm
        attention(f"{name}.self_attn", layer.attention)
        linear(f"{name}.mlp.fc1", layer.fc1)
        linear(f"{name}.mlp.fc2", layer.fc2)
    for index, decoder_layer in enumerate(weights.decoder_layers):
        name = f"model.decoder.layers.{index}"
        tensors[f"{name}.input_layernorm.weight"] = decoder_layer.attention_norm
        tensors[f"{name}.post_attention_layernorm.weight"] = decoder_layer.cross_norm
        tensors[f"{name}.final_layernorm.weight"] = decoder_layer.mlp_norm
        attention(f"{name}.self_attn", decoder_layer.attention)
        attention(f"{name}.encoder_attn", decoder_layer.cross_attention)
        linear(f"{name}.mlp.fc1", decoder_layer.fc1)
        linear(f"{name}.mlp.fc2", decoder_layer.fc2)
    directory.mkdir()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, tensor in tensors.items():
        begin = len(data)
        data += tensor.tobytes()
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, len(data)]}
    encoded = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(data))
    settings = {
        "model_type": "moonshine",
        "hidden_size": config.hidden_size,
        "encoder_num_attention_heads": config.heads,
        "decoder_num_attention_heads": config.heads,
        "encoder_num_hidden_layers": config.encoder_layers,
        "decoder_num_hidden_layers": config.decoder_layers,
        "partial_rotary_factor": 0.9,
        "rope_theta": 10000.0,
        "vocab_size": config.vocabulary_size,
        "bos_token_id": config.bos,
        "eos_token_id": config.eos,
    }
    (directory / "config.json").write_text(json.dumps(settings))
    pieces = {f"piece{index}": index for index in range(config.vocabulary_size)}
    (directory / "tokenizer.json").write_text(json.dumps({"model": {"vocab": pieces}, "added_tokens": []}))
