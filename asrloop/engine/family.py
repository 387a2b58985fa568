"""The protocol between the engine and a model family. A family owns tensors and maths; it knows no queue, thread or Triton.

Rows of a running batch are called slots and numbered from 0. The engine fills low slots first, so a family may
step the prefix ``0..max(slots)`` of its buffers at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from asrloop.config import Lengths
from asrloop.engine.options import TRANSCRIBE, Options

Encoded = TypeVar("Encoded")
Admitted = TypeVar("Admitted", contravariant=True)


@dataclass(frozen=True)
class FamilyInfo:
    """Abilities and limits of a family's model. Code outside the family relies on these alone."""

    windows: Lengths
    """Length of the windows that recordings are cut into, in seconds."""

    languages: tuple[str, ...] = ("en",)
    """ISO 639 codes."""

    family: str = ""
    """Name of the family, which callers are told."""

    tasks: tuple[str, ...] = (TRANSCRIBE,)
    takes_drafts: bool = False
    """True when ``admit`` makes use of a draft and accepts forced tokens."""

    takes_key_terms: bool = False
    """True when ``admit`` prefers the terms that a caller expects."""

    takes_prompt: bool = False
    """True when ``admit`` makes use of text that came before."""

    detects_language: bool = False
    """True when the model finds out which language is spoken, and ``Ended`` says so."""

    turn_cost: float = 0.1
    """Seconds by which an utterance's turn comes later for each second of its audio, so that short audio passes long audio."""

    encodes_side_by_side: bool = True
    """False for a model so large that one encoding takes all cores: then utterances are encoded one after another."""


class Word(NamedTuple):
    """A word of a transcript."""

    first: int
    """Index of its first token."""

    end: int
    """Index behind its last token. Where a token holds parts of two words both have it."""

    text: str
    """With the space before it, if there is one: the texts of all words, joined, are the transcript."""


class Emission(NamedTuple):
    """Tokens that one step, or the check of a draft, decided for one row."""

    tokens: Sequence[int]
    """Newly decided token ids, without BOS, EOS and blank. Often one, for transducers none or several."""

    times: Sequence[float]
    """Start of each token in seconds from the start of the audio; empty for families whose steps give none."""

    done: bool
    """True when the row has reached its end; it is not stepped again."""

    log_probs: Sequence[float] = ()
    """Natural logarithm of each token's probability."""

    cut: bool = False
    """True when the row is done because of a limit, although the model would have gone on."""


NOTHING = Emission((), (), done=False)
"""Nothing was decided yet."""


def joined(emissions: Sequence[Emission], last: Emission = NOTHING) -> Emission:
    """Return emissions as one that ends as ``last`` does."""
    return Emission(
        [token for one in emissions for token in one.tokens],
        [time for one in emissions for time in one.times],
        done=last.done,
        log_probs=[log_prob for one in emissions for log_prob in one.log_probs],
        cut=last.cut,
    )


class Evidence(NamedTuple):
    """How much each frame of the audio speaks for each token, such as attention."""

    weights: NDArray[np.float32]
    """f32 [tokens, frames], 0..1"""

    frame_seconds: float
    """Seconds from one frame to the next."""


class Ended(NamedTuple):
    """Results that a family has only when all tokens of a row are decided."""

    language: str = ""
    """ISO 639 code that the family found, or was told; "" where it does not find it out."""

    evidence: Evidence | None = None
    """Of the kept tokens, where steps give no times and ``Options`` ask for those of words."""

    again: NDArray[np.float32] | None = None
    """Samples that are to be encoded, with ``again``, and decoded once more: the tokens look wrong. Asked for at most once."""


class Batch(Protocol[Admitted]):
    """The rows of one running batch. All methods are called on one thread at a time."""

    def admit(self, slot: int, encoded: Admitted, options: Options) -> Emission:
        """Put an encoded utterance into ``slot``, which is free, and return what is decided of it already.

        A family may check all tokens of ``options.draft`` at once and decide as many of the first as it would decide itself; steps
        go on behind those. Whatever is in a draft, it changes how long decoding takes and never what is decided, but for its
        first ``forced`` tokens, which stand. Without a draft nothing is decided.
        """

    def step(self, slots: Sequence[int]) -> list[Emission]:
        """Advance the given slots (ascending, no duplicates) by one step; one emission a slot, in the same order.

        When it raises, every row stands where it stood before the call, so the engine may step the rows one by one
        to find the one at fault.
        """

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        """Free ``slot`` and return what is known only now that the tokens are complete.

        Called once for every row that was given to ``admit``, however it ended and also where that raised. ``kept`` are the
        token ids of the transcript: fewer than were decided after endless repetition, none after an error or a cancellation.
        """


class Family(Batch[Encoded], Protocol[Encoded]):
    """A model family as the engine sees it. It is its own first batch.

    Threads: ``encode`` may run on several threads at once, while ``admit``, ``step`` and ``finish`` run, which one thread at a time
    calls for each batch. ``words``, ``text``, ``piece``, ``confidence`` and ``word_confidence`` may be called on any thread.
    """

    info: FamilyInfo
    vocabulary_size: int

    def encode(
        self, samples: NDArray[np.float32], options: Options, *, alone: bool = False, again: bool = False
    ) -> Encoded:
        """Encode ``samples`` (f32 [N], 16 kHz mono, finite, -1..1, N >= 1) for ``admit`` of any batch. Must not touch a slot.

        ``alone`` is True when there is nothing else to do: then several threads may work on it. ``again`` is True when ``finish``
        asked for it: then care comes before speed.
        """

    def open_batch(self) -> Batch[Encoded]:
        """Return one more batch with as many slots and memory of its own; sessions and weights are shared."""

    def confidence(self, log_probs: Sequence[float]) -> float:
        """Return how far to trust a transcript, 0..1, from the ``log_probs`` of all its tokens; 0 without tokens."""

    def word_confidence(self, log_prob: float) -> float:
        """Return how far to trust a word, 0..1, from that of its least probable token."""

    def can_write(self, term: str) -> bool:
        """Return True when tokens make ``term``."""

    def piece(self, token: int) -> str:
        """Return what ``token`` by itself adds to a text; U+FFFD where it holds a part of a UTF-8 character."""

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of a token sequence."""

    def words(self, tokens: Sequence[int]) -> list[Word]:
        """Return the words of a token sequence in order: the one place that says where words begin."""
