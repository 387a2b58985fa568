"""Moonshine: an encoder over the whole utterance, then one token a step by greedy search, but a draft's tokens at once.

K/V of all utterances live in rows of buffers that are bound to the decoder once for every number of rows; a step moves only
token ids and lengths. The rows that are stepped are always the first ones. The tokens of a draft are rows, too: of the same K/V.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.family import NOTHING, Emission
from asrloop.families.confidence import Calibration, confidence
from asrloop.families.graphs import Graph, Graphs, Tensors, open_graph, open_session
from asrloop.families.moonshine.repeated import capacity, repeated_zeros
from asrloop.families.vocabulary import Vocabulary

FAMILY = "moonshine"
ENCODER, DECODER, VOCABULARY, NUMBERS = "encoder.onnx", "decoder.onnx", "tokenizer.bin", "family.json"
"""Files of a prepared model."""

TOKENS_IN_FIRST_SECOND, TOKENS_PER_SECOND = 6.5, 10.0
"""Most tokens of the first second of audio and of each that follows. 6.5 is what the model's authors use throughout against
endless repetition; it cuts fast speech, but very short clips do repeat themselves without it (docs/speech.md)."""

ALONE_SAMPLES = 3 * SAMPLE_RATE // 2
"""Shorter audio is encoded as fast by one thread as by several that must be woken."""

CHECKED_AT_ONCE = 16
"""Most tokens of a draft that are checked together: what is behind a wrong one is checked in vain."""

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
        """``directory`` holds the files that ``build`` makes.

        ``encoder_threads`` encode an utterance that is alone; side by side each is encoded by one, which gets more done than
        several that wait for each other. ``graphs`` may have an ``encoder`` and a ``decoder`` that run the same graphs
        elsewhere; then those files are not opened.
        """
        graphs = graphs or {}
        self.numbers = MoonshineNumbers.read(directory / NUMBERS)
        self.vocabulary_size = self.numbers.vocabulary_size
        self._vocabulary = Vocabulary.read_binary(directory / VOCABULARY)
        self._max_samples = round(max_audio_seconds * SAMPLE_RATE)
        self._encode = self._encode_alone = graphs.get("encoder") or open_graph(
            directory / ENCODER, threads=1, memory_arena=False
        )
        if "encoder" not in graphs and encoder_threads > 1:
            self._encode_alone = open_graph(directory / ENCODER, threads=encoder_threads, memory_arena=False)
        bounds = self._token_limit(self._max_samples), self._frame_bound(self._max_samples)
        self._rows = _Rows(self.numbers, slots, *bounds)
        self._checked: _CheckedRow | None = None
        self._row_of = list(range(slots))
        """The row that each slot has now."""
        if "decoder" in graphs:
            self._step: Callable[[int], Decided] = _CalledStep(graphs["decoder"], self._rows)
        else:
            session = open_session(directory / DECODER, threads=decoder_threads)
            self._step = _BoundStep(session, self._rows)
            self._checked = _CheckedRow(session, self.numbers, *bounds)

    def encode(self, samples: NDArray[np.float32], *, alone: bool = False) -> EncodedAudio:
        """Run the encoder over ``samples`` f32 [N]. Too few for one frame are filled up with silence."""
        if not 1 <= samples.size <= self._max_samples:
            raise ValueError(f"{samples.size} samples of audio; between 1 and {self._max_samples} are accepted")
        if not np.isfinite(samples).all():
            raise ValueError("the audio has samples that are NaN or infinite; all must be finite")
        missing = max(0, self.numbers.minimum_samples - samples.size)
        audio = np.pad(samples, (0, missing)) if missing else samples
        encode = self._encode_alone if alone and samples.size > ALONE_SAMPLES else self._encode
        cross = encode({"audio": audio[None]})
        frames = cross["cross_key_0"].shape[2]
        return EncodedAudio(cross, frames, self._token_limit(samples.size))

    def admit(self, slot: int, encoded: EncodedAudio, draft: Sequence[int] = ()) -> Emission:
        """Copy the cross K/V into the row of ``slot``, start it from BOS, and check ``draft``.

        A checked draft gives one token more than is right of it: the one that the model decides in place of the first wrong
        one, or behind the last. Where the decoder runs elsewhere drafts are ignored.
        """
        row = self._row_of[slot]
        self._rows.start(row, encoded)
        likely = list(takewhile(lambda token: 0 <= token < self.vocabulary_size, draft[: encoded.token_limit]))
        if not likely or self._checked is None:
            return NOTHING
        decided = self._checked.decide(encoded, likely)
        if not decided[-1].done:
            self._rows.take_over(row, self._checked.rows)
        return Emission(
            [token for one in decided for token in one.tokens],
            (),
            done=decided[-1].done,
            log_probs=[log_prob for one in decided for log_prob in one.log_probs],
            cut=decided[-1].cut,
        )

    def step(self, slots: Sequence[int]) -> list[Emission]:
        """Decide one token for each of ``slots``. A row ends with EOS, or where it goes on beyond its token limit."""
        self._close_ranks(slots)
        tokens, log_probs = self._step(len(slots))
        rows = [self._row_of[slot] for slot in slots]
        return [self._rows.advance(row, int(tokens[row, 0]), float(log_probs[row, 0])) for row in rows]

    def _close_ranks(self, slots: Sequence[int]) -> None:
        """Give ``slots`` the first rows: a row that is only carried along costs as much as one with a short utterance."""
        slot_of = {row: slot for slot, row in enumerate(self._row_of)}
        behind = [slot for slot in slots if self._row_of[slot] >= len(slots)]
        before = [row for row in range(len(slots)) if slot_of[row] not in slots] if behind else []
        for slot, row in zip(behind, before, strict=True):
            self._rows.exchange(self._row_of[slot], row)
            self._row_of[slot_of[row]], self._row_of[slot] = self._row_of[slot], row

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


class _Rows:
    """The tensors of all rows. Everything is zero at first, so untouched rows take no memory."""

    def __init__(
        self,
        numbers: MoonshineNumbers,
        count: int,
        token_capacity: int,
        frame_capacity: int,
        zeros: Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]] = np.zeros,
    ) -> None:
        """``zeros`` makes the K/V."""
        cache = (count, numbers.heads, token_capacity + 1, numbers.cache_head_size)  # BOS and the tokens
        cross = (count, numbers.heads, frame_capacity, numbers.cross_head_size)
        names = [f"{part}_{layer}" for layer in range(numbers.decoder_layers) for part in ("key", "value")]
        self.bos, self.eos = numbers.bos, numbers.eos
        self.count = count
        self.cache = {name: zeros(cache, np.dtype(np.float32)) for name in names}
        self.cross = {f"cross_{name}": zeros(cross, np.dtype(numbers.cross_type)) for name in names}
        self.kept = {f"kept_{name}": buffer for name, buffer in self.cross.items() if buffer.dtype == np.int8}
        self.tokens = np.full((count, 1), numbers.bos, np.int64)
        self.lengths = np.zeros(count, np.int32)
        self.frames = np.ones(count, np.int32)
        self.token_limits = np.zeros(count, np.int32)
        self.next_tokens = np.zeros((count, 1), np.int64)
        self.token_log_probs = np.zeros((count, 1), np.float32)

    def start(self, row: int, encoded: EncodedAudio) -> None:
        for name, buffer in self.cross.items():
            buffer[row, :, : encoded.frames] = encoded.cross[name][0]
        self.frames[row] = encoded.frames
        self.token_limits[row] = encoded.token_limit
        self.tokens[row] = self.bos
        self.lengths[row] = 0

    def advance(self, row: int, token: int, log_prob: float) -> Emission:
        """Take over what a successful step decided for ``row``."""
        at_limit = bool(self.lengths[row] >= self.token_limits[row])
        if token == self.eos or at_limit:
            self.lengths[row], self.frames[row] = 0, 1
            return Emission((), (), done=True, cut=token != self.eos)
        self.tokens[row] = token
        self.lengths[row] += 1
        return Emission((token,), (), done=False, log_probs=(log_prob,))

    def take_over(self, row: int, other: "_Rows") -> None:
        """Let ``row``, which has the same cross K/V as the first row of ``other``, go on where that one is."""
        length = int(other.lengths[0])
        for name, buffer in self.cache.items():
            buffer[row, :, :length] = other.cache[name][0, :, :length]
        self.tokens[row], self.lengths[row] = other.tokens[0], length

    def exchange(self, one: int, other: int) -> None:
        """Let two rows change places. Only what is used is copied: of a row that has ended next to nothing."""
        for buffers, used in ((self.cache, self.lengths), (self.cross, self.frames)):
            of_one, of_other = int(used[one]), int(used[other])
            for buffer in buffers.values():
                kept = buffer[other, :, :of_other].copy()
                buffer[other, :, :of_one] = buffer[one, :, :of_one]
                buffer[one, :, :of_other] = kept
        for numbers in (self.tokens, self.lengths, self.frames, self.token_limits):
            numbers[[one, other]] = numbers[[other, one]]


Decided = tuple[NDArray[np.int64], NDArray[np.float32]]
"""``next_tokens`` i64 [rows, 1] and ``token_log_probs`` f32 [rows, 1] of a step."""


class _BoundStep:
    """Steps the first rows in a session whose inputs and outputs are bound to the rows' memory."""

    def __init__(self, session: ort.InferenceSession, state: _Rows) -> None:
        self._session = session
        self._state = state
        self._bindings = [self._bind(rows) for rows in range(1, state.count + 1)]

    def __call__(self, rows: int) -> Decided:
        self._session.run_with_iobinding(self._bindings[rows - 1])
        return self._state.next_tokens[:rows], self._state.token_log_probs[:rows]

    def _bind(self, rows: int) -> ort.IOBinding:
        state = self._state
        binding = self._session.io_binding()
        inputs: dict[str, NDArray[Any]] = {
            "tokens": state.tokens,
            "lengths": state.lengths,
            "frames": state.frames,
            **state.cross,
        }
        outputs: dict[str, NDArray[Any]] = {
            "next_tokens": state.next_tokens,
            "token_log_probs": state.token_log_probs,
            **state.kept,
        }
        for name, cache in state.cache.items():
            inputs[f"past_{name}"] = cache
            outputs[f"present_{name}"] = cache
        for tensors, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, tensor in tensors.items():
                bind(name, "cpu", 0, tensor.dtype.type, (rows, *tensor.shape[1:]), tensor.ctypes.data)
        return binding


class _CheckedRow:
    """Decides the first tokens of an utterance many at once, by a guess of what they are.

    Each token is a row of a step, and all rows have the same K/V: the decoder writes those of all rows before it attends to
    any, and each row attends to as many as its length says. So the numbers are the same bits as those of single steps, which
    they would not be if the tokens were columns of one row: attention to several tokens at once adds up in another order.
    """

    def __init__(
        self, session: ort.InferenceSession, numbers: MoonshineNumbers, token_capacity: int, frame_capacity: int
    ) -> None:
        tokens = capacity(token_capacity + 1, numbers.heads * numbers.cache_head_size * np.dtype(np.float32).itemsize)
        frames = capacity(
            frame_capacity, numbers.heads * numbers.cross_head_size * np.dtype(numbers.cross_type).itemsize
        )
        self.rows = _Rows(numbers, CHECKED_AT_ONCE, tokens - 1, frames, repeated_zeros)
        self._step = _BoundStep(session, self.rows)

    def decide(self, encoded: EncodedAudio, likely: Sequence[int]) -> list[Emission]:
        """What steps would give as long as it is ``likely``, and the first that is not, or is behind it. Left in the first row."""
        rows = self.rows
        rows.start(0, encoded)
        decided: list[Emission] = []
        while True:
            guesses = likely[len(decided) :][: CHECKED_AT_ONCE - 1]
            tokens, log_probs = self._decide([int(rows.tokens[0, 0]), *guesses])
            for token, log_prob in zip(tokens, log_probs, strict=True):
                expected = likely[len(decided) :][:1]
                decided.append(rows.advance(0, token, log_prob))
                if decided[-1].done or expected != [token]:
                    return decided

    def _decide(self, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        """What follows each of ``tokens``, which follow what is in the cache."""
        rows, count = self.rows, len(tokens)
        length, frames = int(rows.lengths[0]), rows.frames[0]
        rows.tokens[:count, 0] = tokens
        rows.lengths[:count] = np.arange(length, length + count)
        rows.frames[:count] = frames
        next_tokens, log_probs = self._step(count)
        return next_tokens[:, 0].tolist(), log_probs[:, 0].tolist()


class _CalledStep:
    """Steps the first rows by a graph that runs elsewhere. Tensors travel, so only their used part is sent."""

    def __init__(self, graph: Graph, state: _Rows) -> None:
        self._graph = graph
        self._state = state

    def __call__(self, rows: int) -> Decided:
        state = self._state
        tokens, frames = int(state.lengths[:rows].max()) + 1, int(state.frames[:rows].max())
        inputs: dict[str, NDArray[Any]] = {
            "tokens": state.tokens[:rows],
            "lengths": state.lengths[:rows],
            "frames": state.frames[:rows],
        }
        for name, cache in state.cache.items():
            inputs[f"past_{name}"] = np.ascontiguousarray(cache[:rows, :, :tokens])
        for name, cross in state.cross.items():
            inputs[name] = np.ascontiguousarray(cross[:rows, :, :frames])
        outputs = self._graph(inputs)
        row, position = np.arange(rows), state.lengths[:rows]
        for name, cache in state.cache.items():
            cache[row, :, position] = outputs[f"present_{name}"][row, :, position]
        return np.asarray(outputs["next_tokens"], np.int64), np.asarray(outputs["token_log_probs"], np.float32)
