"""Moonshine: an encoder over the whole utterance, then one token a step by greedy search.

K/V of all slots live in buffers that are bound to the decoder once for every number of rows; a step moves only token ids
and lengths.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.family import Emission
from asrloop.families.confidence import Calibration, confidence
from asrloop.families.graphs import Graph, Graphs, Tensors, open_graph, open_session
from asrloop.families.vocabulary import Vocabulary

FAMILY = "moonshine"
ENCODER, DECODER, VOCABULARY, NUMBERS = "encoder.onnx", "decoder.onnx", "tokenizer.bin", "family.json"
"""Files of a prepared model."""

TOKENS_IN_FIRST_SECOND, TOKENS_PER_SECOND = 6.5, 10.0
"""Most tokens of the first second of audio and of each that follows. 6.5 is what the model's authors use throughout against
endless repetition; it cuts fast speech, but very short clips do repeat themselves without it (docs/speech.md)."""

CALIBRATION = Calibration(offset=-0.4, slope=1.43)
"""Fitted with tiny-en by `asrloop-bench confidence`; see docs/confidence.md."""


@dataclass(frozen=True)
class MoonshineNumbers:
    """``family.json``: what the engine must know about the two graphs."""

    precision: str
    vocabulary_size: int
    heads: int
    decoder_layers: int
    cache_head_size: int
    cross_head_size: int
    cross_type: str
    bos: int
    eos: int
    minimum_samples: int
    samples_per_frame: int
    tokens_in_first_second: float
    tokens_per_second: float
    format: int = 0

    @classmethod
    def read(cls, path: Path) -> "MoonshineNumbers":
        """Read ``family.json``. Raises ValueError when it describes another family."""
        numbers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        family = numbers.pop("family", None)
        if family != FAMILY:
            raise ValueError(f"{path} describes family {family!r}, not {FAMILY!r}; make the models again")
        return cls(**numbers)


@dataclass(frozen=True)
class EncodedAudio:
    """Cross K/V of one utterance, [1, heads, frames, cross_head_size] by name, and how many tokens it may get."""

    cross: Tensors
    frames: int
    token_limit: int


class Moonshine:
    """Implements :class:`asrloop.engine.family.Family`."""

    def __init__(
        self,
        directory: Path,
        *,
        slots: int,
        max_audio_seconds: float,
        encoder_threads: int = 1,
        decoder_threads: int = 1,
        graphs: Graphs | None = None,
    ) -> None:
        """``directory`` holds the files that ``build`` makes. ``graphs`` may have an ``encoder`` and a ``decoder`` that run
        the same graphs elsewhere; then those files are not opened."""
        graphs = graphs or {}
        self.numbers = MoonshineNumbers.read(directory / NUMBERS)
        self.vocabulary_size = self.numbers.vocabulary_size
        self._vocabulary = Vocabulary.read_binary(directory / VOCABULARY)
        self._max_samples = round(max_audio_seconds * SAMPLE_RATE)
        self._encode = graphs.get("encoder") or open_graph(
            directory / ENCODER, threads=encoder_threads, memory_arena=False
        )
        self._slots = _Slots(
            self.numbers, slots, self._token_limit(self._max_samples), self._frame_bound(self._max_samples)
        )
        if "decoder" in graphs:
            self._step: Callable[[int], Decided] = _CalledStep(graphs["decoder"], self._slots)
        else:
            self._step = _BoundStep(open_session(directory / DECODER, threads=decoder_threads), self._slots)

    def encode(self, samples: NDArray[np.float32]) -> EncodedAudio:
        """Run the encoder over ``samples`` f32 [N]. Too few for one frame are filled up with silence."""
        if not 1 <= samples.size <= self._max_samples:
            raise ValueError(f"{samples.size} samples of audio; between 1 and {self._max_samples} are accepted")
        if not np.isfinite(samples).all():
            raise ValueError("the audio has samples that are NaN or infinite; all must be finite")
        missing = max(0, self.numbers.minimum_samples - samples.size)
        audio = np.pad(samples, (0, missing)) if missing else samples
        cross = self._encode({"audio": audio[None]})
        frames = cross["cross_key_0"].shape[2]
        return EncodedAudio(cross, frames, self._token_limit(samples.size))

    def admit(self, slot: int, encoded: EncodedAudio) -> None:
        """Copy the cross K/V into ``slot`` and start it from BOS."""
        self._slots.start(slot, encoded)

    def step(self, slots: Sequence[int]) -> list[Emission]:
        """Decide one token for each of ``slots``. A row ends with EOS, or where it goes on beyond its token limit."""
        state = self._slots
        rows = slots[-1] + 1
        state.frames[:rows] = 1  # a row that is not stepped costs almost nothing
        state.frames[slots] = state.valid_frames[slots]
        tokens, log_probs = self._step(rows)
        return [state.advance(slot, int(tokens[slot, 0]), float(log_probs[slot, 0])) for slot in slots]

    def confidence(self, log_probs: Sequence[float]) -> float:
        """The share of right words to expect."""
        return confidence(log_probs, CALIBRATION)

    def piece(self, token: int) -> str:
        """What ``token`` adds to a text; a leading space starts a word."""
        return self._vocabulary.piece(token)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a finished token sequence."""
        return self._vocabulary.text(tokens)

    def _token_limit(self, samples: int) -> int:
        seconds = samples / SAMPLE_RATE
        first = min(seconds, 1.0)
        numbers = self.numbers
        return int(first * numbers.tokens_in_first_second + (seconds - first) * numbers.tokens_per_second) + 1

    def _frame_bound(self, samples: int) -> int:
        return max(samples, self.numbers.minimum_samples) // self.numbers.samples_per_frame + 1


class _Slots:
    """The tensors of all rows. Everything is zero at first, so untouched slots take no memory."""

    def __init__(self, numbers: MoonshineNumbers, slots: int, token_capacity: int, frame_capacity: int) -> None:
        cache = (slots, numbers.heads, token_capacity + 1, numbers.cache_head_size)  # BOS and the tokens
        cross = (slots, numbers.heads, frame_capacity, numbers.cross_head_size)
        names = [f"{part}_{layer}" for layer in range(numbers.decoder_layers) for part in ("key", "value")]
        self.bos, self.eos = numbers.bos, numbers.eos
        self.count = slots
        self.cache = {name: np.zeros(cache, np.float32) for name in names}
        self.cross = {f"cross_{name}": np.zeros(cross, np.dtype(numbers.cross_type)) for name in names}
        self.kept = {f"kept_{name}": buffer for name, buffer in self.cross.items() if buffer.dtype == np.int8}
        self.tokens = np.full((slots, 1), numbers.bos, np.int64)
        self.lengths = np.zeros(slots, np.int32)
        self.frames = np.ones(slots, np.int32)
        self.next_tokens = np.zeros((slots, 1), np.int64)
        self.token_log_probs = np.zeros((slots, 1), np.float32)
        self.valid_frames = np.ones(slots, np.int32)
        self.token_limits = np.zeros(slots, np.int32)

    def start(self, slot: int, encoded: EncodedAudio) -> None:
        for name, buffer in self.cross.items():
            buffer[slot, :, : encoded.frames] = encoded.cross[name][0]
        self.valid_frames[slot] = encoded.frames
        self.token_limits[slot] = encoded.token_limit
        self.tokens[slot] = self.bos
        self.lengths[slot] = 0

    def advance(self, slot: int, token: int, log_prob: float) -> Emission:
        """Take over what a successful step decided for ``slot``."""
        at_limit = bool(self.lengths[slot] >= self.token_limits[slot])
        if token == self.eos or at_limit:
            self.lengths[slot] = 0
            return Emission((), (), done=True, cut=token != self.eos)
        self.tokens[slot] = token
        self.lengths[slot] += 1
        return Emission((token,), (), done=False, log_probs=(log_prob,))


Decided = tuple[NDArray[np.int64], NDArray[np.float32]]
"""``next_tokens`` i64 [rows, 1] and ``token_log_probs`` f32 [rows, 1] of a step."""


class _BoundStep:
    """Steps a prefix of the slots in a session whose inputs and outputs are bound to the slots' memory."""

    def __init__(self, session: ort.InferenceSession, slots: _Slots) -> None:
        self._session = session
        self._slots = slots
        self._bindings = [self._bind(rows) for rows in range(1, slots.count + 1)]

    def __call__(self, rows: int) -> Decided:
        self._session.run_with_iobinding(self._bindings[rows - 1])
        return self._slots.next_tokens[:rows], self._slots.token_log_probs[:rows]

    def _bind(self, rows: int) -> ort.IOBinding:
        slots = self._slots
        binding = self._session.io_binding()
        inputs: dict[str, NDArray[Any]] = {
            "tokens": slots.tokens,
            "lengths": slots.lengths,
            "frames": slots.frames,
            **slots.cross,
        }
        outputs: dict[str, NDArray[Any]] = {
            "next_tokens": slots.next_tokens,
            "token_log_probs": slots.token_log_probs,
            **slots.kept,
        }
        for name, cache in slots.cache.items():
            inputs[f"past_{name}"] = cache
            outputs[f"present_{name}"] = cache
        for tensors, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, tensor in tensors.items():
                bind(name, "cpu", 0, tensor.dtype.type, (rows, *tensor.shape[1:]), tensor.ctypes.data)
        return binding


class _CalledStep:
    """Steps a prefix of the slots by a graph that runs elsewhere. Tensors travel, so only their used part is sent."""

    def __init__(self, graph: Graph, slots: _Slots) -> None:
        self._graph = graph
        self._slots = slots

    def __call__(self, rows: int) -> Decided:
        slots = self._slots
        tokens, frames = int(slots.lengths[:rows].max()) + 1, int(slots.frames[:rows].max())
        inputs: dict[str, NDArray[Any]] = {
            "tokens": slots.tokens[:rows],
            "lengths": slots.lengths[:rows],
            "frames": slots.frames[:rows],
        }
        for name, cache in slots.cache.items():
            inputs[f"past_{name}"] = np.ascontiguousarray(cache[:rows, :, :tokens])
        for name, cross in slots.cross.items():
            inputs[name] = np.ascontiguousarray(cross[:rows, :, :frames])
        outputs = self._graph(inputs)
        row, position = np.arange(rows), slots.lengths[:rows]
        for name, cache in slots.cache.items():
            cache[row, :, position] = outputs[f"present_{name}"][row, :, position]
        return np.asarray(outputs["next_tokens"], np.int64), np.asarray(outputs["token_log_probs"], np.float32)
