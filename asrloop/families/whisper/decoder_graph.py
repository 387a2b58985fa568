"""The Whisper decoder as an ONNX graph that decides one token for every row of a batch; see ``asrloop.families.graphs.step``.

A multilingual one also gives ``language_logits`` f32 [wanted, 1, languages], which mean something behind the first token.
"""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.graphs.step import StepWriter
from asrloop.families.quantize.layer import DecoderLayer
from asrloop.families.quantize.linear import LinearWriter
from asrloop.families.whisper.source import Tokens
from asrloop.families.whisper.weights import NORM_EPSILON, WhisperConfig, WhisperWeights
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter


def cross_head_size(config: WhisperConfig) -> int:
    """Return the head size widened to a multiple of 8, which GroupQueryAttention needs."""
    return -(-config.hidden_size // config.decoder_heads // 8) * 8


def sizes(config: WhisperConfig, tokens: Tokens, cross_type: str) -> DecoderSizes:
    """Return the sizes of the decoder's graph."""
    return DecoderSizes(
        layers=config.decoder_layers,
        heads=config.decoder_heads,
        cache_head_size=cross_head_size(config),
        cross_head_size=cross_head_size(config),
        cross_type=cross_type,
        vocabulary_size=config.vocabulary_size,
        bos=tokens.sot,
        eos=tokens.eot,
        head_size=config.hidden_size // config.decoder_heads,
        alignment_heads=config.alignment_heads,
        not_first=tokens.not_first,
        languages=len(tokens.languages),
        picks_rows=True,
    )


def decoder_step(weights: WhisperWeights, tokens: Tokens, linear: LinearWriter, compact: bool = False) -> ModelProto:
    """Return the graph of one step. A ``compact`` one takes s8 cross K/V, in the units that the weights expect, and holds the
    embedding in f16."""
    config = weights.config
    graph = GraphWriter()
    step = _Step(graph, linear, sizes(config, tokens, "int8" if compact else "float32"), NORM_EPSILON)
    embedded = step.embed(weights.embedding, np.float16 if compact else np.float32)
    positions = graph.constant("positions", weights.positions)
    place = graph.node("Unsqueeze", ["lengths", graph.constant("axis", np.ones(1, np.int64))], "place")
    placed = graph.node("Add", [embedded, graph.node("Gather", [positions, place], "position")], "placed")
    normed = step.layers(weights.decoder_layers, placed, weights.decoder_norm, weights.decoder_norm_bias)
    step.decide(normed, weights.head, tokens.suppressed)
    if tokens.languages:
        _tell_languages(graph, normed, weights, list(tokens.languages.values()))
    return graph.model("whisper_decoder_step")


def _tell_languages(graph: GraphWriter, normed: str, weights: WhisperWeights, languages: Sequence[int]) -> None:
    """Write the logits of the tokens of languages, which are suppressed otherwise."""
    matrix = graph.constant("languages.matrix", np.ascontiguousarray(weights.head.matrix[:, list(languages)]))
    graph.node("MatMul", [normed, matrix], "language_logits")
    graph.output("language_logits", np.float32, ["wanted", 1, len(languages)])


class _Step(StepWriter):
    def mlp(self, layer: DecoderLayer, normed: str, name: str) -> str:
        inner = self.linear(self.graph, normed, layer.fc1, f"{name}.fc1")
        inner = self.graph.node("Gelu", [inner], f"{name}.gelu", domain=CONTRIB)
        return self.linear(self.graph, inner, layer.fc2, f"{name}.fc2")
