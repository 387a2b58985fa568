"""Whisper in plain NumPy fp32, written from the published architecture (Radford et al. 2022, arXiv:2212.04356) and not from the
graphs: no folding, no caches, no padding of heads. Slow, and what the graphs must agree with."""

from collections.abc import Mapping, Sequence
from math import erf

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]
"""By the names of Hugging Face checkpoints."""


def log_mel(samples: Array, bands: int) -> Array:
    """Features f32 [bands, times] of samples whose number is a multiple of 160."""
    padded = np.pad(samples.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[start : start + 400] * window for start in range(0, samples.size, 160)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    log = np.log10(np.maximum(filters(bands) @ power.T, 1e-10))
    return ((np.maximum(log, log.max() - 8) + 4) / 4).astype(np.float32)


def filters(bands: int) -> NDArray[np.float64]:
    """Slaney's mel filters, each of equal area, one a row."""
    mels = np.linspace(0, 15 + np.log(8000 / 1000) / (np.log(6.4) / 27), bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    found = np.zeros((bands, 201))
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for place in range(201):
            hertz = place * 40.0
            rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
            found[band, place] = max(0.0, min(rising, falling)) * 2 / (high - low)
    return found


class ReferenceWhisper:
    """One utterance at a time."""

    def __init__(self, tensors: Tensors, encoder_heads: int, decoder_heads: int) -> None:
        self.tensors = tensors
        self.heads = {"encoder": encoder_heads, "decoder": decoder_heads}

    def encode(self, samples: Array) -> Array:
        """Encoder states f32 [frames, hidden]."""
        t = self.tensors
        x = log_mel(samples, t["model.encoder.conv1.weight"].shape[1])
        x = gelu(convolve(x, t["model.encoder.conv1.weight"], t["model.encoder.conv1.bias"], 1))
        x = gelu(convolve(x, t["model.encoder.conv2.weight"], t["model.encoder.conv2.bias"], 2)).T
        x = x + t["model.encoder.embed_positions.weight"][: len(x)]
        for name in self._layers("encoder"):
            x = x + self._attend(f"{name}.self_attn", self._norm(f"{name}.self_attn_layer_norm", x), None, "encoder")
            x = x + self._mlp(name, x)
        return self._norm("model.encoder.layer_norm", x)

    def logits(self, states: Array, tokens: Sequence[int]) -> Array:
        """Logits f32 [len(tokens), vocabulary] of the token after each of ``tokens``."""
        t = self.tensors
        x = (
            t["model.decoder.embed_tokens.weight"][list(tokens)]
            + t["model.decoder.embed_positions.weight"][: len(tokens)]
        )
        for name in self._layers("decoder"):
            x = x + self._attend(f"{name}.self_attn", self._norm(f"{name}.self_attn_layer_norm", x), None, "decoder")
            asked = self._norm(f"{name}.encoder_attn_layer_norm", x)
            x = x + self._attend(f"{name}.encoder_attn", asked, states, "decoder")
            x = x + self._mlp(name, x)
        logits: Array = self._norm("model.decoder.layer_norm", x) @ t["model.decoder.embed_tokens.weight"].T
        return logits

    def greedy(
        self,
        states: Array,
        prefix: Sequence[int],
        eot: int,
        limit: int,
        suppressed: Sequence[int] = (),
        not_first: Sequence[int] = (),
    ) -> list[int]:
        """At most ``limit`` tokens behind ``prefix``."""
        tokens = list(prefix)
        while len(tokens) < len(prefix) + limit:
            logits = self.logits(states, tokens)[-1].copy()
            logits[[*suppressed, *(not_first if len(tokens) == len(prefix) else ())]] = -np.inf
            token = int(logits.argmax())
            if token == eot:
                break
            tokens.append(token)
        return tokens[len(prefix) :]

    def _layers(self, part: str) -> list[str]:
        count = 1 + max(int(name.split(".")[3]) for name in self.tensors if name.startswith(f"model.{part}.layers."))
        return [f"model.{part}.layers.{index}" for index in range(count)]

    def _mlp(self, name: str, x: Array) -> Array:
        inner = gelu(self._linear(f"{name}.fc1", self._norm(f"{name}.final_layer_norm", x)))
        return self._linear(f"{name}.fc2", inner)

    def _attend(self, name: str, x: Array, states: Array | None, part: str) -> Array:
        heads = self.heads[part]
        frames = x if states is None else states
        query, key, value = (
            self._linear(f"{name}.{each}_proj", source).reshape(len(source), heads, -1).transpose(1, 0, 2)
            for each, source in (("q", x), ("k", frames), ("v", frames))
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[2])
        if part == "decoder" and states is None:
            scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ value
        return self._linear(f"{name}.out_proj", mixed.transpose(1, 0, 2).reshape(len(x), -1))

    def _linear(self, name: str, x: Array) -> Array:
        result: Array = x @ self.tensors[f"{name}.weight"].T
        return result + self.tensors[f"{name}.bias"] if f"{name}.bias" in self.tensors else result

    def _norm(self, name: str, x: Array) -> Array:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        normed: Array = (x - mean) / np.sqrt(variance + 1e-5) * self.tensors[f"{name}.weight"]
        return normed + self.tensors[f"{name}.bias"]


def convolve(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    padded = np.pad(x, ((0, 0), (1, 1)))
    windows = np.stack([padded[:, at : at + 3] for at in range(0, x.shape[1], stride)])
    result: Array = np.einsum("tiw,oiw->ot", windows, weight) + bias[:, None]
    return result


def gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2))), np.float32)
