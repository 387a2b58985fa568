"""What a stream asks of the models: decodings of an open segment, and whether its speaker is done."""

from collections.abc import Sequence
from typing import NamedTuple

from asrloop.audio import Samples


class Decoding(NamedTuple):
    """Audio to be decoded, and what is known of its text."""

    samples: Samples
    """f32 [N], 16 kHz."""

    prefix: Sequence[int]
    """Tokens of what is said in it before the segment; decoding goes on behind them."""

    prefix_samples: int
    """Number of samples that the prefix comes from."""

    draft: Sequence[int]
    """Tokens of the previous decoding of the segment."""

    forced: int
    """Leading words of the draft that stand."""

    segment: int
    begin: int
    """Frame of the stream at which its audio begins."""

    end: int
    """Frame of the stream behind its audio."""

    over_at: int | None = None
    """Frame at which the segment ends if this is its last decoding; None for a partial."""


class Hypothesis(NamedTuple):
    """The result of a decoding, behind its prefix."""

    words: Sequence[str] = ()
    """Each with the space before it, if there is one."""

    tokens: Sequence[int] = ()
    complete: bool = True
    """False where a limit or endless repetition ended it."""

    confidence: float = 1.0
    """Share of right words to expect."""

    probabilities: Sequence[float] = ()
    """One a word."""

    times: Sequence[tuple[float, float]] = ()
    """Start and end of each word, in seconds from the start of the decoding's audio, where they are asked for."""

    confidences: Sequence[float] = ()
    """One a word, where times are asked for."""

    language: str = ""
    """ISO 639 code that the model found, where the stream has none; "" where it knows none."""


class Question(NamedTuple):
    """A pause that the turn detector is to judge."""

    samples: Samples
    """f32 [N], 16 kHz: the segment with the pause."""

    segment: int
    speech_end: int
    """Frame of the stream behind the last speech."""
