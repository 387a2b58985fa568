"""The Moonshine decoder as an ONNX graph that decides one token for every row of a batch; see ``asrloop.families.graphs.step``."""

import numpy as np
from onnx import ModelProto

from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.graphs.step import StepWriter
from asrloop.families.moonshine.decoding import MAX_TOKENS
from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.layer import DecoderLayer
from asrloop.families.quantize.linear import LinearWriter
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter


def cache_head_size(config: MoonshineConfig) -> int:
    """Return the head size widened to a multiple of 16, the only sizes that GroupQueryAttention rotates."""
    return -(-config.head_size // 16) * 16


def cross_head_size(config: MoonshineConfig) -> int:
    """Return the head size widened to a multiple of 8, which GroupQueryAttention needs without rotation."""
    return -(-config.head_size // 8) * 8


def sizes(config: MoonshineConfig, cross_type: str) -> DecoderSizes:
    """Return the sizes of the decoder's graph."""
    return DecoderSizes(
        layers=config.decoder_layers,
        heads=config.heads,
        cache_head_size=cache_head_size(config),
        cross_head_size=cross_head_size(config),
        cross_type=cross_type,
        vocabulary_size=config.vocabulary_size,
        bos=config.bos,
        eos=config.eos,
        head_size=config.head_size,
        alignment_heads=config.alignment_heads,
    )


def decoder_step(weights: MoonshineWeights, linear: LinearWriter, compact: bool = False) -> ModelProto:
    """Return the graph of one step. A ``compact`` one takes s8 cross K/V, in the units that the weights expect, and holds the
    embedding in f16."""
    config = weights.config
    graph = GraphWriter()
    tables = config.rotary_tables(MAX_TOKENS)
    step = _Step(graph, linear, sizes(config, "int8" if compact else "float32"), config.norm_epsilon, tables)
    hidden = step.embed(weights.embedding, np.float16 if compact else np.float32)
    step.decide(step.layers(weights.decoder_layers, hidden, weights.decoder_norm), weights.head)
    return graph.model("moonshine_decoder_step")


class _Step(StepWriter):
    def mlp(self, layer: DecoderLayer, normed: str, name: str) -> str:
        """Write SwiGLU: values * SiLU(gate)."""
        both = self.linear(self.graph, normed, layer.fc1, f"{name}.fc1")
        values, gate = self.graph.nodes("Split", [both], [f"{name}.values", f"{name}.gate"], axis=-1, num_outputs=2)
        opened = self.graph.node("QuickGelu", [gate], f"{name}.opened", domain=CONTRIB, alpha=1.0)
        product = self.graph.node("Mul", [values, opened], f"{name}.gated")
        return self.linear(self.graph, product, layer.fc2, f"{name}.fc2")
