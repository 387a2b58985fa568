"""Moonshine: an encoder over the whole utterance, then greedy search by an attention decoder."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.config import Lengths
from asrloop.engine.family import Emission, Ended, Evidence, FamilyInfo, Word
from asrloop.engine.options import DEFAULTS, Options
from asrloop.families.attention.greedy import GreedySearch
from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.attention.rows import EncodedAudio
from asrloop.families.bias import Bias
from asrloop.families.confidence import Calibration, confidence
from asrloop.families.quantize.vnni import check
from asrloop.families.text.terms import TermsOf
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.text.words import words_between_spaces
from asrloop.onnx_files.sessions import Graphs, open_graph, open_session

FAMILY = "moonshine"
INFO = FamilyInfo(windows=Lengths(10.0, 15.0), languages=("en",), takes_drafts=True, takes_key_terms=True)
ENCODER, DECODER, VOCABULARY, NUMBERS = "encoder.onnx", "decoder.onnx", "tokenizer.bin", "family.json"
"""Files of a prepared model."""

TOKENS_IN_FIRST_SECOND, TOKENS_PER_SECOND = 6.5, 10.0
"""Limits of tokens for the first second of audio and for each that follows. The model's authors use 6.5 throughout against
endless repetition; it cuts fast speech, but very short clips do repeat themselves without it (docs/speech.md)."""

MAX_FRAMES, MAX_TOKENS = 4096, 1024
"""Positions in the rotary tables of encoder and decoder: 98 s of audio, and about as much at 10 tokens a second. ONNX Runtime fails
every step of a decoder whose memory is for more."""

ALONE_SAMPLES = 3 * SAMPLE_RATE // 2
"""Shortest audio that several threads encode faster than one: they must be woken."""

CALIBRATION = Calibration(offset=-0.27, slope=1.37)
"""Fitted with tiny-en by `asrloop-bench confidence`; see docs/confidence.md."""

WORD_CALIBRATION = Calibration(offset=0.6, slope=0.86)
"""The same for a word, by its least probable token."""


@dataclass(frozen=True)
class MoonshineNumbers:
    """Numbers of ``family.json`` that decoding needs."""

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
    head_size: int
    alignment_heads: list[list[int]]
    """Layer and head each."""

    tokens_in_first_second: float
    tokens_per_second: float

    @classmethod
    def read(cls, path: Path) -> "MoonshineNumbers":
        """Read ``family.json``. Raises ValueError when it describes another family."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if (family := content.get("family")) != FAMILY:
            raise ValueError(f"{path} describes family {family!r}, not {FAMILY!r}; make the models again")
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    @property
    def decoder_sizes(self) -> DecoderSizes:
        return DecoderSizes(
            layers=self.decoder_layers,
            heads=self.heads,
            cache_head_size=self.cache_head_size,
            cross_head_size=self.cross_head_size,
            cross_type=self.cross_type,
            vocabulary_size=self.vocabulary_size,
            bos=self.bos,
            eos=self.eos,
            head_size=self.head_size,
            alignment_heads=tuple((layer, head) for layer, head in self.alignment_heads),
        )


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
        """Open the files in ``directory`` that ``build`` makes.

        ``encoder_threads`` encode an utterance that is alone; in company each is encoded by one thread, which gets more done
        than several that wait for each other. ``graphs`` may have an ``encoder`` and a ``decoder`` that run the same graphs
        elsewhere; then those files are not opened.
        """
        graphs = graphs or {}
        self.numbers = MoonshineNumbers.read(directory / NUMBERS)
        check(self.numbers.precision)
        self.vocabulary_size = self.numbers.vocabulary_size
        self._vocabulary = Vocabulary.read_binary(directory / VOCABULARY)
        self._terms = TermsOf(self._vocabulary.spaced())
        self._max_samples = round(max_audio_seconds * SAMPLE_RATE)
        tokens, frames = self._token_limit(self._max_samples), self._frame_bound(self._max_samples)
        if tokens > MAX_TOKENS or frames > MAX_FRAMES:
            most = int(max_audio_seconds * min(MAX_TOKENS / tokens, MAX_FRAMES / frames))
            raise ValueError(
                f"windows.lengths of moonshine end at {max_audio_seconds:g} s, the model at {most} s: lower them"
            )
        self._encode = self._encode_alone = graphs.get("encoder") or open_graph(
            directory / ENCODER, threads=1, memory_arena=False
        )
        if "encoder" not in graphs and encoder_threads > 1:
            self._encode_alone = open_graph(directory / ENCODER, threads=encoder_threads, memory_arena=False)
        self._search = GreedySearch(
            graphs.get("decoder") or open_session(directory / DECODER, threads=decoder_threads),
            self.numbers.decoder_sizes,
            slots,
            token_capacity=tokens,
            frame_capacity=frames,
        )
        self.info = replace(info, takes_drafts=self._search.is_here, takes_key_terms=self._search.is_here)

    def encode(
        self, samples: NDArray[np.float32], options: Options = DEFAULTS, *, alone: bool = False, again: bool = False
    ) -> EncodedAudio:
        """Run the encoder over ``samples`` f32 [N], filled up with silence where they are too few for one frame."""
        if not 1 <= samples.size <= self._max_samples:
            raise ValueError(f"{samples.size} samples of audio; between 1 and {self._max_samples} are accepted")
        self._terms(options.key_terms)  # so that no step waits for them to be made
        missing = max(0, self.numbers.minimum_samples - samples.size)
        audio = np.pad(samples, (0, missing)) if missing else samples
        encode = self._encode_alone if alone and samples.size > ALONE_SAMPLES else self._encode
        cross = encode({"audio": audio[None]})
        frames = cross["cross_key_0"].shape[2]
        return EncodedAudio(cross, frames, self._token_limit(samples.size))

    def open_batch(self) -> "Moonshine":
        batch = copy.copy(self)
        batch._search = self._search.another()
        return batch

    def admit(self, slot: int, encoded: EncodedAudio, options: Options = DEFAULTS) -> Emission:
        bias = None
        if options.key_terms:
            terms = self._terms(options.key_terms)
            bias = Bias(terms, options.key_terms_boost, *self._terms.edges)
        return self._search.admit(slot, encoded, options.draft, word_times=options.word_times, bias=bias)

    def step(self, slots: Sequence[int]) -> list[Emission]:
        return self._search.step(slots)

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        weights = self._search.finish(slot, len(kept))
        return Ended(
            evidence=None if weights is None else Evidence(weights, self.numbers.samples_per_frame / SAMPLE_RATE)
        )

    def confidence(self, log_probs: Sequence[float]) -> float:
        """Return the share of right words to expect."""
        return confidence(log_probs, CALIBRATION)

    def word_confidence(self, log_prob: float) -> float:
        """Return the share of such words that are right."""
        return confidence([log_prob], WORD_CALIBRATION)

    def can_write(self, term: str) -> bool:
        return self._terms.can_write(term)

    def piece(self, token: int) -> str:
        return self._vocabulary.piece(token)

    def text(self, tokens: Sequence[int]) -> str:
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
