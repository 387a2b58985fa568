"""Whisper: an encoder over the speech and a little silence, then greedy search by an attention decoder."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.config import Lengths
from asrloop.engine.family import Emission, Ended, Evidence, FamilyInfo, Word
from asrloop.engine.options import DEFAULTS, TRANSLATE, Options
from asrloop.families.attention.greedy import GreedySearch
from asrloop.families.attention.rows import EncodedAudio
from asrloop.families.bias import Bias
from asrloop.families.confidence import Calibration, confidence
from asrloop.families.quantize.vnni import check
from asrloop.families.text.byte_level import ByteLevelEncoder
from asrloop.families.text.terms import TermsOf
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.text.words import words_between_spaces
from asrloop.families.whisper.context import SAMPLES_PER_FRAME, context_samples, with_silence
from asrloop.families.whisper.ending import looks_wrong
from asrloop.families.whisper.numbers import WhisperNumbers
from asrloop.onnx_files.sessions import Graphs, open_graph, open_session

INFO = FamilyInfo(
    windows=Lengths(20.0, 28.0), languages=("en",), takes_drafts=True, takes_key_terms=True, takes_prompt=True
)
ENCODER, DECODER, SILENCE = "encoder.onnx", "decoder.onnx", "silence.npz"
VOCABULARY, NUMBERS = "tokenizer.bin", "family.json"
"""Files of a prepared model."""

FEWEST_TOKENS, TOKENS_PER_SECOND = 8, 12.0
"""Limit of tokens. Nobody says more; of languages whose characters take several tokens, MULTILINGUAL_TIMES as many."""

MULTILINGUAL_TIMES = 2.0

LETTERS_PER_TOKEN = 32
"""No token of a text has more, but for rows of one mark; so much of the end of a long prompt is looked at."""

LARGE = 256 << 20
"""Bytes of an encoder of which there is one, that takes all cores: such a model is seldom asked for many things at once."""

ALONE_SAMPLES = SAMPLE_RATE // 2
"""Shortest audio that several threads encode faster than one: they must be woken."""

CALIBRATION = Calibration(offset=0.60, slope=1.44)
"""Fitted with tiny.en; see docs/whisper.md."""

WORD_CALIBRATION = Calibration(offset=1.09, slope=0.95)
"""The same for a word, by its least probable token."""


@dataclass(frozen=True)
class Encoded:
    """An utterance that was encoded."""

    audio: EncodedAudio
    samples: NDArray[np.float32]
    """For once more."""

    again: bool


@dataclass
class _Slot:
    """What was decided in a slot."""

    samples: NDArray[np.float32] | None = None
    """For once more; None where this is that."""

    language: str = ""
    log_probs: list[float] = field(default_factory=list)
    cut: bool = False

    def take(self, emission: Emission) -> Emission:
        self.log_probs.extend(emission.log_probs)
        self.cut |= emission.cut
        return emission


class Whisper:
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
        self.numbers = WhisperNumbers.read(directory / NUMBERS)
        check(self.numbers.precision)
        sizes = self.numbers.decoder_sizes
        self.vocabulary_size = sizes.vocabulary_size
        self._vocabulary = Vocabulary.read_binary(directory / VOCABULARY)
        self._tokens_of = ByteLevelEncoder(list(self._vocabulary))
        self._before = lru_cache(64)(self._tokens_before)
        self._terms = TermsOf(self._vocabulary.spaced())
        with np.load(directory / SILENCE) as silence:
            self._silence = dict(silence)
        self._languages = list(self.numbers.language_tokens)
        most = self.numbers.frames * SAMPLES_PER_FRAME
        self._max_samples = min(round(max_audio_seconds * SAMPLE_RATE), most)
        if max_audio_seconds * SAMPLE_RATE > most:
            raise ValueError(
                f"windows.lengths of whisper end at {max_audio_seconds:g} s, the model at {most / SAMPLE_RATE:g} s: lower them"
            )
        is_large = sum(file.stat().st_size for file in directory.glob(f"{ENCODER}*")) > LARGE
        self._encode = self._encode_alone = graphs.get("encoder") or open_graph(
            directory / ENCODER, threads=encoder_threads if is_large else 1, memory_arena=False
        )
        if "encoder" not in graphs and encoder_threads > 1 and not is_large:
            self._encode_alone = open_graph(directory / ENCODER, threads=encoder_threads, memory_arena=False)
        self._search = GreedySearch(
            graphs.get("decoder") or open_session(directory / DECODER, threads=decoder_threads),
            sizes,
            slots,
            token_capacity=self.numbers.positions - 1,
            frame_capacity=self.numbers.frames,
            compares=True,
        )
        self._slots = [_Slot() for _ in range(slots)]
        here = self._search.is_here
        self.info = replace(info, takes_drafts=here, takes_key_terms=here, encodes_side_by_side=not is_large)

    def encode(
        self, samples: NDArray[np.float32], options: Options = DEFAULTS, *, alone: bool = False, again: bool = False
    ) -> Encoded:
        """Run the encoder over ``samples`` f32 [N] and silence: a little, or ``again`` as much as the model was trained with."""
        if not 1 <= samples.size <= self._max_samples:
            raise ValueError(f"{samples.size} samples of audio; between 1 and {self._max_samples} are accepted")
        self._terms(options.key_terms)  # so that no step waits for them to be made,
        self._before(options.prompt)  # nor for this
        context = context_samples(samples.size, self.numbers.frames, whole=again)
        audio = np.pad(samples, (0, context - samples.size))
        encode = self._encode_alone if alone and samples.size > ALONE_SAMPLES else self._encode
        cross = encode({"audio": audio[None]})
        if not again:
            cross = with_silence(cross, self._silence)
        frames = cross["cross_key_0"].shape[2]
        heard = -(-samples.size // SAMPLES_PER_FRAME)
        return Encoded(EncodedAudio(cross, frames, self._token_limit(samples.size), heard), samples, again)

    def open_batch(self) -> "Whisper":
        batch = copy.copy(self)
        batch._search = self._search.another()
        batch._slots = [_Slot() for _ in self._slots]
        return batch

    def admit(self, slot: int, encoded: Encoded, options: Options = DEFAULTS) -> Emission:
        here = self._slots[slot] = _Slot(None if encoded.again else encoded.samples, options.language)
        if self._languages and not here.language:
            here.language = self._languages[self._search.language(slot, encoded.audio)]
        # Once more without the prompt, as the authors do: a text that repeats itself makes the model go on repeating that.
        prefix = self._prefix(here.language, replace(options, prompt="") if encoded.again else options)
        bias = None
        if options.key_terms:
            terms = self._terms(options.key_terms)
            bias = Bias(terms, options.key_terms_boost, *self._terms.edges)
        room = self.numbers.positions - len(prefix)
        audio = replace(encoded.audio, token_limit=min(encoded.audio.token_limit, room))
        # Tokens that steer the model are no text, whoever sends them.
        text = list(takewhile(lambda token: 0 <= token < self.numbers.eot, options.draft.tokens))
        draft = options.draft._replace(tokens=text, forced=min(options.draft.forced, len(text)))
        return here.take(
            self._search.admit(slot, audio, draft, word_times=options.word_times, bias=bias, prefix=prefix)
        )

    def step(self, slots: Sequence[int]) -> list[Emission]:
        emissions = self._search.step(slots)
        return [self._slots[slot].take(emission) for slot, emission in zip(slots, emissions, strict=True)]

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        weights = self._search.finish(slot, len(kept))
        here, self._slots[slot] = self._slots[slot], _Slot()
        ended = Ended(
            language=here.language,
            evidence=None if weights is None else Evidence(weights, SAMPLES_PER_FRAME / SAMPLE_RATE),
        )
        if here.samples is None:
            return ended
        cut = here.cut or len(kept) < len(here.log_probs)
        wrong = looks_wrong(kept, self.text(kept), here.log_probs, here.samples.size / SAMPLE_RATE, cut=cut)
        return ended._replace(again=here.samples if wrong else None)

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

    def _prefix(self, language: str, options: Options) -> list[int]:
        """Return the tokens before the text: what came before, if told, then what is asked for."""
        numbers = self.numbers
        prefix = [numbers.sot]
        if self._languages:
            task = numbers.translate if options.task == TRANSLATE else numbers.transcribe
            prefix += [numbers.language_tokens[language], task or 0]
        prefix.append(numbers.no_timestamps)
        return [*self._before(options.prompt), *prefix]

    def _tokens_before(self, prompt: str) -> list[int]:
        """Return the end of a text that came before, as tokens, and what begins it."""
        previous, most = self.numbers.previous, self.numbers.positions // 2 - 1
        written = prompt.strip()[-most * LETTERS_PER_TOKEN :]
        return [previous, *self._tokens_of(f" {written}")[-most:]] if written and previous is not None else []

    def _token_limit(self, samples: int) -> int:
        times = MULTILINGUAL_TIMES if self._languages else 1.0
        return int(times * (FEWEST_TOKENS + TOKENS_PER_SECOND * samples / SAMPLE_RATE))
