"""Moonshine: an encoder over the whole utterance, then one token a step by greedy search, but a draft's tokens at once.

K/V of all utterances live in rows of buffers that are bound to the decoder once for every number of rows; a step moves only
token ids and lengths. The rows that are stepped are always the first ones. The tokens of a draft are rows, too: of the same K/V.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.config import Lengths
from asrloop.engine.family import NOTHING, Emission, Ended, FamilyInfo, Word
from asrloop.engine.options import DEFAULTS, Options
from asrloop.families.confidence import Calibration, confidence
from asrloop.families.moonshine.checking import CheckedRow
from asrloop.families.moonshine.rows import BoundStep, CalledStep, Decided, EncodedAudio, Rows
from asrloop.families.moonshine.vnni import check
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.text.words import words_between_spaces
from asrloop.onnx_files.sessions import Graphs, open_graph, open_session

FAMILY = "moonshine"
INFO = FamilyInfo(windows=Lengths(10.0, 15.0), languages=("en",), takes_drafts=True)
ENCODER, DECODER, VOCABULARY, NUMBERS = "encoder.onnx", "decoder.onnx", "tokenizer.bin", "family.json"
"""Files of a prepared model."""

TOKENS_IN_FIRST_SECOND, TOKENS_PER_SECOND = 6.5, 10.0
"""Most tokens of the first second of audio and of each that follows. 6.5 is what the model's authors use throughout against
endless repetition; it cuts fast speech, but very short clips do repeat themselves without it (docs/speech.md)."""

ALONE_SAMPLES = 3 * SAMPLE_RATE // 2
"""Shorter audio is encoded as fast by one thread as by several that must be woken."""

CALIBRATION = Calibration(offset=-0.27, slope=1.37)
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
        return cls(**{field.name: numbers[field.name] for field in fields(cls) if field.name in numbers})


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
        info: FamilyInfo = INFO,
    ) -> None:
        """``directory`` holds the files that ``build`` makes.

        ``encoder_threads`` encode an utterance that is alone; side by side each is encoded by one, which gets more done than
        several that wait for each other. ``graphs`` may have an ``encoder`` and a ``decoder`` that run the same graphs
        elsewhere; then those files are not opened.
        """
        graphs = graphs or {}
        self.numbers = MoonshineNumbers.read(directory / NUMBERS)
        check(self.numbers.precision)
        self.vocabulary_size = self.numbers.vocabulary_size
        self._vocabulary = Vocabulary.read_binary(directory / VOCABULARY)
        self._max_samples = round(max_audio_seconds * SAMPLE_RATE)
        self._encode = self._encode_alone = graphs.get("encoder") or open_graph(
            directory / ENCODER, threads=1, memory_arena=False
        )
        if "encoder" not in graphs and encoder_threads > 1:
            self._encode_alone = open_graph(directory / ENCODER, threads=encoder_threads, memory_arena=False)
        bounds = self._token_limit(self._max_samples), self._frame_bound(self._max_samples)
        self._rows = Rows(self.numbers, slots, *bounds)
        self._checked: CheckedRow | None = None
        self._row_of = list(range(slots))
        """The row that each slot has now."""
        if "decoder" in graphs:
            self._step: Callable[[int], Decided] = CalledStep(graphs["decoder"], self._rows)
        else:
            session = open_session(directory / DECODER, threads=decoder_threads)
            self._step = BoundStep(session, self._rows)
            self._checked = CheckedRow(session, self.numbers, *bounds)
        # Where the decoder runs elsewhere, checking a draft would send its K/V there and back.
        self.info = replace(info, takes_drafts=self._checked is not None)

    def encode(self, samples: NDArray[np.float32], options: Options = DEFAULTS, *, alone: bool = False) -> EncodedAudio:
        """Run the encoder over ``samples`` f32 [N]. Too few for one frame are filled up with silence."""
        if not 1 <= samples.size <= self._max_samples:
            raise ValueError(f"{samples.size} samples of audio; between 1 and {self._max_samples} are accepted")
        missing = max(0, self.numbers.minimum_samples - samples.size)
        audio = np.pad(samples, (0, missing)) if missing else samples
        encode = self._encode_alone if alone and samples.size > ALONE_SAMPLES else self._encode
        cross = encode({"audio": audio[None]})
        frames = cross["cross_key_0"].shape[2]
        return EncodedAudio(cross, frames, self._token_limit(samples.size))

    def admit(self, slot: int, encoded: EncodedAudio, options: Options = DEFAULTS) -> Emission:
        """Copy the cross K/V into the row of ``slot``, start it from BOS, and check the draft.

        A checked draft gives one token more than is right of it: the one that the model decides in place of the first wrong
        one, or behind the last. Drafts are ignored where ``info`` says so.
        """
        draft = options.draft
        row = self._row_of[slot]
        self._rows.start(row, encoded)
        likely = list(takewhile(self._is_text, draft.tokens[: encoded.token_limit]))
        if not likely or self._checked is None:
            return NOTHING
        decided = self._checked.decide(encoded, likely, draft.forced)
        if not decided[-1].done:
            self._rows.take_over(row, self._checked.rows)
        return Emission(
            [token for one in decided for token in one.tokens],
            (),
            done=decided[-1].done,
            log_probs=[log_prob for one in decided for log_prob in one.log_probs],
            cut=decided[-1].cut,
        )

    def _is_text(self, token: int) -> bool:
        return 0 <= token < self.vocabulary_size and token not in (self.numbers.bos, self.numbers.eos)

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

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        """Free the row, so that no step attends to what is left in it."""
        self._rows.free(self._row_of[slot])
        return Ended()

    def confidence(self, log_probs: Sequence[float]) -> float:
        """The share of right words to expect."""
        return confidence(log_probs, CALIBRATION)

    def piece(self, token: int) -> str:
        """What ``token`` adds to a text; a leading space starts a word."""
        return self._vocabulary.piece(token)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a finished token sequence."""
        return self._vocabulary.text(tokens)

    def words(self, tokens: Sequence[int]) -> list[Word]:
        return words_between_spaces(self._vocabulary.spelled(tokens))

    def _token_limit(self, samples: int) -> int:
        seconds = samples / SAMPLE_RATE
        first = min(seconds, 1.0)
        numbers = self.numbers
        return int(first * numbers.tokens_in_first_second + (seconds - first) * numbers.tokens_per_second) + 1

    def _frame_bound(self, samples: int) -> int:
        return max(samples, self.numbers.minimum_samples) // self.numbers.samples_per_frame + 1
