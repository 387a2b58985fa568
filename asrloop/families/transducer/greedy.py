"""The transducer family (NVIDIA Parakeet): greedy TDT and RNN-T decoding of many utterances that stand at different frames."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.config import Lengths
from asrloop.engine.family import NOTHING, Emission, Ended, FamilyInfo, Word, joined
from asrloop.engine.options import DEFAULTS, Options
from asrloop.families.bias import Bias
from asrloop.families.confidence import confidence
from asrloop.families.text.pieces import spelled
from asrloop.families.text.terms import TermsOf
from asrloop.families.text.words import words_between_spaces
from asrloop.families.transducer.decoders import Floats, TransducerDecoder
from asrloop.families.transducer.expecting import Expecting, Stand
from asrloop.onnx_files.sessions import Graph

INFO = FamilyInfo(windows=Lengths(20.0, 30.0), takes_key_terms=True)
"""Takes no drafts: a step is cheap beside the encoder."""

_NO_FRAMES: Floats = np.zeros((0, 1), np.float32)


@dataclass(frozen=True)
class TransducerRules:
    """Numbers of a model that greedy decoding needs."""

    vocabulary: tuple[str, ...]
    """Piece of each token id, the blank among them; U+2581 stands for a space."""

    blank: int
    """Id of the token that stands for no token at a frame."""

    has_durations: bool
    """True for TDT, where scores of durations 0, 1, 2 .. frames follow those of the tokens; False for RNN-T."""

    max_tokens_per_frame: int
    """After so many tokens at one frame the next frame follows, whatever the scores say."""

    seconds_per_frame: float
    """Seconds from one encoder frame to the next: feature hop times subsampling."""

    window: int
    """Frames that one call of the joint network looks at."""


class EncodedSpeech(NamedTuple):
    """Frames f32 [T, ...] as the decoder prepared them."""

    frames: Floats


class Transducer:
    """Implements :class:`asrloop.engine.family.Family`.

    One step decides, for every row, all blanks up to its next token or to the end of its window, and that token. This is
    exact: a blank changes no state, so the joint network may look at the frames behind it in the same call.
    Sources: Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, for RNN-T; Xu et al., ICML 2023, for TDT.
    """

    def __init__(
        self,
        rules: TransducerRules,
        mel: Graph,
        encoder: Graph,
        decoder: TransducerDecoder,
        slots: int,
        max_samples: int,
        *,
        encoder_alone: Graph | None = None,
        info: FamilyInfo = INFO,
    ) -> None:
        """Use ``encoder_alone``, which has more threads, for an utterance that is alone; by default ``encoder``."""
        self.info = info
        self.rules = rules
        self.vocabulary_size = len(rules.vocabulary)
        self.mel = mel
        self.encoder = encoder
        self.encoder_alone = encoder_alone or encoder
        self.decoder = decoder
        self._max_samples = max_samples
        texts = ["" if piece.startswith("<") else piece.replace("\u2581", " ") for piece in rules.vocabulary]
        self._terms = TermsOf([text.encode() for text in texts])
        self._empty(slots)

    def _empty(self, slots: int) -> None:
        self._frames: list[Floats] = [_NO_FRAMES] * slots
        self._at = [0] * slots
        """Frame at which each slot stands; at or beyond the last one the utterance is done."""
        self._expecting: dict[int, Expecting] = {}
        """Slots whose callers expect terms."""
        self._tokens_here = [0] * slots
        """Tokens that each slot has decided at that frame."""

    def encode(
        self, samples: NDArray[np.float32], options: Options = DEFAULTS, *, alone: bool = False, again: bool = False
    ) -> EncodedSpeech:
        """Return the frames of ``samples``. Audio shorter than one feature frame has no frames and no tokens."""
        if not 1 <= samples.size <= self._max_samples:
            raise ValueError(f"{samples.size} samples of audio; between 1 and {self._max_samples} are accepted")
        self._terms(options.key_terms)
        features = self.mel({"waveforms": samples[None], "waveforms_lens": np.array([len(samples)], np.int64)})
        if features["features_lens"][0] == 0:
            return EncodedSpeech(_NO_FRAMES)
        encode = self.encoder_alone if alone else self.encoder
        encoded = encode({"audio_signal": features["features"], "length": features["features_lens"]})
        outputs = np.asarray(encoded["outputs"][:, :, : int(encoded["encoded_lengths"][0])], np.float32)
        return EncodedSpeech(self.decoder.frames(outputs))

    def open_batch(self) -> "Transducer":
        batch = copy.copy(self)
        batch.decoder = self.decoder.another()
        batch._empty(len(self._frames))
        return batch

    def admit(self, slot: int, encoded: EncodedSpeech, options: Options = DEFAULTS) -> Emission:
        self.decoder.begin(slot)
        self._frames[slot] = encoded.frames
        self._at[slot] = 0
        self._tokens_here[slot] = 0
        if options.key_terms:
            bias = Bias(self._terms(options.key_terms), options.key_terms_boost, *self._terms.edges)
            self._expecting[slot] = Expecting(bias)
        return NOTHING

    def step(self, slots: Sequence[int]) -> list[Emission]:
        """Decide at most one token for each of ``slots``."""
        decided = self._decide([slot for slot in slots if self._at[slot] < len(self._frames[slot])])
        usual = {
            slot: token
            for slot, decision in decided.items()
            if (token := decision.token) is not None and slot not in self._expecting
        }
        if usual:
            self.decoder.accept(list(usual), list(usual.values()))
        return [self._emission(slot, decided.get(slot)) for slot in slots]

    def _emission(self, slot: int, decision: "_Decision | None") -> Emission:
        if decision is None:  # no frames
            return Emission((), (), done=True)
        expecting, time = self._expecting.get(slot), decision.frame * self.rules.seconds_per_frame
        stand, frames = Stand(decision.next_frame, decision.tokens_there), len(self._frames[slot])
        found = Emission((), (), done=False)
        if decision.token is not None and (expecting is None or decision.scores is None):
            found = Emission([decision.token], [time], done=False, log_probs=[decision.log_prob])
        elif decision.token is not None and expecting is not None and decision.scores is not None:
            found, stand = expecting.decide(self.decoder, slot, decision.token, decision.scores, stand, time)
        if expecting is not None and stand.frame >= frames:
            rest, stand = expecting.end(self.decoder, slot, stand)
            found = joined([found, rest])
        self._at[slot], self._tokens_here[slot] = stand
        return found._replace(done=stand.frame >= frames)

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        """Let go of the frames."""
        self._frames[slot] = _NO_FRAMES
        self._expecting.pop(slot, None)
        return Ended()

    def confidence(self, log_probs: Sequence[float]) -> float:
        """Return the geometric mean of the tokens' probabilities, not calibrated."""
        return confidence(log_probs)

    def word_confidence(self, log_prob: float) -> float:
        """Return the probability itself; it is not calibrated."""
        return confidence([log_prob])

    def can_write(self, term: str) -> bool:
        return self._terms.can_write(term)

    def piece(self, token: int) -> str:
        return self.rules.vocabulary[token].replace("\u2581", " ")

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self._spelled(tokens)).strip()

    def words(self, tokens: Sequence[int]) -> list[Word]:
        return words_between_spaces(self._spelled(tokens))

    def _spelled(self, tokens: Sequence[int]) -> list[str]:
        return spelled([self.piece(token) for token in tokens])

    def _decide(self, slots: list[int]) -> "dict[int, _Decision]":
        """Return the next decision for each slot. Changes nothing."""
        if not slots:
            return {}
        windows = [self._frames[slot][self._at[slot] : self._at[slot] + self.rules.window] for slot in slots]
        logits = self.decoder.logits(slots, _side_by_side(windows))
        size = self.vocabulary_size
        tokens = logits[:, :, :size].argmax(2).tolist()
        durations = logits[:, :, size:].argmax(2).tolist() if self.rules.has_durations else None
        decided = {
            slot: self._walk(slot, tokens[row][: len(window)], durations[row] if durations else None)
            for row, (slot, window) in enumerate(zip(slots, windows, strict=True))
        }
        found = [(row, slot) for row, slot in enumerate(slots) if decided[slot].token is not None]
        at = [decided[slot].frame - self._at[slot] for _, slot in found]
        log_probs = _greatest_log_probs(logits[[row for row, _ in found], at, :size])
        for (_, slot), log_prob in zip(found, log_probs, strict=True):
            decided[slot] = decided[slot]._replace(log_prob=log_prob)
        for (row, slot), frame in zip(found, at, strict=True):
            if slot in self._expecting:
                decided[slot] = decided[slot]._replace(scores=logits[row, frame, :size])
        return decided

    def _walk(self, slot: int, tokens: list[int], durations: list[int] | None) -> "_Decision":
        """Follow the blanks of a window to the first token; ``tokens`` and ``durations`` hold the best of each frame."""
        first, tokens_here, offset = self._at[slot], self._tokens_here[slot], 0
        while offset < len(tokens):
            token = tokens[offset]
            duration = durations[offset] if durations else 0
            frame = first + offset
            if token == self.rules.blank:
                offset += max(duration, 1)
                tokens_here = 0
            elif duration > 0:
                return _Decision(token, frame, frame + duration, 0)
            elif tokens_here + 1 >= self.rules.max_tokens_per_frame:
                return _Decision(token, frame, frame + 1, 0)
            else:
                return _Decision(token, frame, frame, tokens_here + 1)
        return _Decision(None, 0, first + offset, tokens_here)


def _greatest_log_probs(scores: Floats) -> list[float]:
    """Return the logarithm of the greatest probability of each row of ``scores`` f32 [N, C]."""
    found: list[float] = (-np.log(np.exp(scores - scores.max(1, keepdims=True, initial=-np.inf)).sum(1))).tolist()
    return found


def _side_by_side(windows: list[Floats]) -> Floats:
    """Stack windows into [N, W, ...] with zeros behind the shorter ones."""
    if len(windows) == 1:
        return windows[0][None]
    frames = np.zeros((len(windows), max(map(len, windows)), *windows[0].shape[1:]), np.float32)
    for row, window in zip(frames, windows, strict=True):
        row[: len(window)] = window
    return frames


class _Decision(NamedTuple):
    """The next token of a row, if one was found, its frame, and where the row stands afterwards."""

    token: int | None
    frame: int
    next_frame: int
    tokens_there: int
    log_prob: float = 0.0
    scores: Floats | None = None
    """Logits of all tokens, f32 [C], where the caller expects terms."""
