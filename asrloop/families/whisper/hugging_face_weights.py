"""Reads a Whisper of any size from a Hugging Face checkpoint: ``config.json``, ``generation_config.json`` and safetensors."""

from pathlib import Path
from typing import Any

import numpy as np

from asrloop.families.checkpoints.safetensors import Tensors
from asrloop.families.quantize.layer import Attention, Linear
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.whisper.ctranslate2_weights import alignment_heads
from asrloop.families.whisper.source import MULTILINGUAL_SIZE, Shaped, json_object, tokens_of
from asrloop.families.whisper.source import Tokens as SteeringTokens
from asrloop.families.whisper.weights import (
    Norm,
    RawDecoderLayer,
    RawEncoderLayer,
    WhisperConfig,
    WhisperWeights,
    folded_decoder_layer,
    folded_encoder_layer,
)

CONFIG_FILE, GENERATION_FILE = "config.json", "generation_config.json"
_SIZES = (
    "d_model", "encoder_attention_heads", "decoder_attention_heads", "encoder_layers", "decoder_layers", "encoder_ffn_dim",
    "decoder_ffn_dim", "num_mel_bins", "vocab_size", "max_source_positions", "max_target_positions",
)  # fmt: skip


class HuggingFaceSource:
    """Implements :class:`asrloop.families.whisper.source.Source`."""

    def __init__(self, directory: Path) -> None:
        """Open the checkpoint in ``directory``. Raises FileNotFoundError, and ValueError for what is no Whisper."""
        path = directory / CONFIG_FILE
        settings = json_object(path)
        if settings.get("model_type") != "whisper":
            raise ValueError(f"{path} describes model_type {settings.get('model_type')!r}, not 'whisper'")
        for name in _SIZES:
            if not isinstance(settings.get(name), int) or settings[name] < 1:
                raise ValueError(f"{path}: {name} is {settings.get(name)!r}; it must be a positive number")
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if settings["d_model"] % settings[name]:
                raise ValueError(
                    f"{path}: d_model is {settings['d_model']}, which {name}, {settings[name]}, does not divide"
                )
        if (activation := settings.get("activation_function", "gelu")) != "gelu":
            raise ValueError(f"{path}: activation_function is {activation!r}; only 'gelu' is supported")
        self._directory = directory
        self._settings = settings
        generation = directory / GENERATION_FILE
        self._generation: dict[str, Any] = json_object(generation) if generation.is_file() else {}
        layers, heads = settings["decoder_layers"], settings["decoder_attention_heads"]
        self.config = WhisperConfig(
            hidden_size=settings["d_model"],
            encoder_heads=settings["encoder_attention_heads"],
            decoder_heads=heads,
            encoder_layers=settings["encoder_layers"],
            decoder_layers=layers,
            mels=settings["num_mel_bins"],
            vocabulary_size=settings["vocab_size"],
            frames=settings["max_source_positions"],
            positions=settings["max_target_positions"],
            alignment_heads=alignment_heads(self._generation.get("alignment_heads"), layers, heads, generation),
        )

    def weights(self) -> WhisperWeights:
        config, hidden = self.config, self.config.hidden_size
        tensors = Tensors(self._directory, "Whisper")
        read = Shaped(tensors.__getitem__, self._directory, CONFIG_FILE)
        encoder_norm = _norm(read, "model.encoder.layer_norm", hidden)
        decoder_norm = _norm(read, "model.decoder.layer_norm", hidden)
        embedding = read("model.decoder.embed_tokens.weight", config.vocabulary_size, hidden)
        head = read("proj_out.weight", *embedding.shape) if "proj_out.weight" in tensors else embedding
        in_encoder, in_decoder = self._settings["encoder_ffn_dim"], self._settings["decoder_ffn_dim"]
        return WhisperWeights(
            config=config,
            conv1=read("model.encoder.conv1.weight", hidden, config.mels, 3),
            conv1_bias=read("model.encoder.conv1.bias", hidden),
            conv2=read("model.encoder.conv2.weight", hidden, hidden, 3),
            conv2_bias=read("model.encoder.conv2.bias", hidden),
            encoder_positions=read("model.encoder.embed_positions.weight", config.frames, hidden),
            encoder_layers=tuple(
                folded_encoder_layer(
                    RawEncoderLayer(
                        attention_norm=_norm(read, f"{name}.self_attn_layer_norm", hidden),
                        attention=_attention(read, f"{name}.self_attn", hidden),
                        mlp_norm=_norm(read, f"{name}.final_layer_norm", hidden),
                        fc1=_linear(read, f"{name}.fc1", hidden, in_encoder),
                        fc2=_linear(read, f"{name}.fc2", in_encoder, hidden),
                    )
                )
                for name in (f"model.encoder.layers.{index}" for index in range(config.encoder_layers))
            ),
            encoder_norm=encoder_norm.scale,
            embedding=embedding,
            positions=read("model.decoder.embed_positions.weight", config.positions, hidden),
            decoder_layers=tuple(
                folded_decoder_layer(
                    RawDecoderLayer(
                        attention_norm=_norm(read, f"{name}.self_attn_layer_norm", hidden),
                        attention=_attention(read, f"{name}.self_attn", hidden),
                        cross_norm=_norm(read, f"{name}.encoder_attn_layer_norm", hidden),
                        cross_attention=_attention(read, f"{name}.encoder_attn", hidden),
                        mlp_norm=_norm(read, f"{name}.final_layer_norm", hidden),
                        fc1=_linear(read, f"{name}.fc1", hidden, in_decoder),
                        fc2=_linear(read, f"{name}.fc2", in_decoder, hidden),
                    ),
                    encoder_norm,
                )
                for name in (f"model.decoder.layers.{index}" for index in range(config.decoder_layers))
            ),
            decoder_norm=decoder_norm.scale,
            decoder_norm_bias=decoder_norm.bias,
            head=Linear(np.ascontiguousarray(head.T)),
        )

    def vocabulary(self) -> tuple[Vocabulary, SteeringTokens]:
        size = self.config.vocabulary_size
        suppressed, not_first = (
            self._generation.get(name, self._settings.get(name))
            for name in ("suppress_tokens", "begin_suppress_tokens")
        )
        multilingual = self._generation.get("is_multilingual", size >= MULTILINGUAL_SIZE)
        return tokens_of(self._directory, size, suppressed, not_first, multilingual=bool(multilingual))


def _norm(read: Shaped, name: str, size: int) -> Norm:
    return read.norm(f"{name}.weight", f"{name}.bias", size)


def _linear(read: Shaped, name: str, inputs: int, outputs: int) -> Linear:
    return read.linear(f"{name}.weight", inputs, outputs, bias=f"{name}.bias")


def _attention(read: Shaped, name: str, size: int) -> Attention:
    """Read the four projections; keys have no bias."""
    return Attention(
        query=_linear(read, f"{name}.q_proj", size, size),
        key=read.linear(f"{name}.k_proj.weight", size, size),
        value=_linear(read, f"{name}.v_proj", size, size),
        output=_linear(read, f"{name}.out_proj", size, size),
    )
