"""What the engine asks of a model family. A family owns tensors and maths; it knows no queue, no thread and no Triton.

Rows of the running batch are called slots and numbered from 0. The engine fills low slots first, so a family may
step the prefix ``0..max(slots)`` of its buffers at once.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Encoded = TypeVar("Encoded")


class Emission(NamedTuple):
    """What one step, or the check of a draft, decided for one row."""

    tokens: Sequence[int]
    """Newly decided token ids, without BOS, EOS and blank. Often one, for transducers none or several."""

    times: Sequence[float]
    """Start of each token in seconds from the start of the audio; empty for families without timestamps."""

    done: bool
    """True when the row has reached its end; it is not stepped again."""

    log_probs: Sequence[float] = ()
    """Natural logarithm of each token's probability."""

    cut: bool = False
    """True when the row is done because of a limit, although the model would have gone on."""


NOTHING = Emission((), (), done=False)
"""Nothing was decided yet."""


class Family(Protocol[Encoded]):
    """A model family as the engine sees it.

    Threads: ``encode`` may run on several threads at once, while ``admit`` and ``step`` run, all on one step thread.
    """

    vocabulary_size: int
    takes_drafts: bool
    """Whether ``admit`` makes use of a draft, and takes tokens as given."""

    def encode(self, samples: NDArray[np.float32], *, alone: bool = False) -> Encoded:
        """Turn ``samples`` (f32 [N], 16 kHz mono, -1..1, N >= 1) into whatever ``admit`` needs. Touches no slot.

        ``alone`` says that there is nothing else to do: then several threads may work on it.
        """

    def admit(self, slot: int, encoded: Encoded, draft: Sequence[int] = (), given: int = 0) -> Emission:
        """Put an encoded utterance into ``slot``, replacing what was there, and return what is decided of it already.

        ``draft`` are token ids that decoding is likely to give, such as those of nearly the same audio. A family may check
        them all at once and decide as many of the first as it would decide itself; steps go on behind those. Whatever is in
        a draft, it changes how long decoding takes and never what is decided. Without one nothing is decided.
        The first ``given`` of them are no guess: they stand, and what follows is decided behind them.
        """

    def step(self, slots: Sequence[int]) -> list[Emission]:
        """Advance the given slots (ascending, no duplicates) by one step; one emission a slot, in the same order.

        When it raises, every row stands where it stood before the call, so the engine may step the rows one by one
        to find the one at fault.
        """

    def confidence(self, log_probs: Sequence[float]) -> float:
        """How far to trust a finished transcript, 0..1, from the ``log_probs`` of all its tokens; 0 without tokens."""

    def piece(self, token: int) -> str:
        """What ``token`` adds to a text; a leading space starts a word."""

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a finished token sequence."""
