"""What ends a segment: how many frames of silence, given how sure its text is and what the turn detector says of the pause."""

from dataclasses import dataclass
from typing import Protocol

from asrloop.engine.turns import NONE, SEMANTIC, Turns
from asrloop.speech.detector import frames_in

ENDS = frames_in(0.22)
"""After so much silence it is over when its text is sure."""

UNSURE_ENDS = frames_in(0.38)
"""The same for an unsure text: mostly the speaker is in the middle of a sentence, and the rest makes it clearer. Half a second
would save half a point of word errors, and two finals in five would come 0.1 s later."""

ASKS = (frames_in(0.16), frames_in(1.0))
"""After so much silence the turn detector is asked, and once more. It tells ends from other pauses as well after 0.1 s, and worse
after 0.3 s; but it hears two in five of the ends that it missed when the silence is long, and few other pauses are."""

UNANSWERED = -1.0
"""What stands for an answer of the turn detector where it gave none: it failed, or had too much to do."""

NEVER = 1 << 30
"""More frames than any segment has."""


class Ending(Protocol):
    """Decides which pause ends a segment."""

    asks: bool
    """True where the turn detector is asked about each pause."""

    def patience(self, answer: float | None, *, is_unsure: bool) -> int:
        """Return the frames of silence that end a segment. ``answer`` is the probability that the speaker is done, ``UNANSWERED``,
        or None before it is there. ``is_unsure`` is True where the text of the segment is likely to be wrong."""


@dataclass(frozen=True)
class BySilence:
    """Ends a segment after silence of one length, and of another where the text is unsure."""

    sure: int = ENDS
    unsure: int = UNSURE_ENDS
    asks = False

    def patience(self, answer: float | None, *, is_unsure: bool) -> int:
        """As Ending has it."""
        return self.unsure if is_unsure else self.sure


@dataclass(frozen=True)
class ByTurn:
    """Ends a segment as soon as the speaker sounds done, and after ``longest`` frames of silence at the latest."""

    threshold: float
    longest: int
    without_answer: BySilence
    asks = True

    def patience(self, answer: float | None, *, is_unsure: bool) -> int:
        """As Ending has it."""
        if answer == UNANSWERED:
            return self.without_answer.patience(answer, is_unsure=is_unsure)
        return ASKS[0] if answer is not None and answer >= self.threshold else self.longest


class ByCaller:
    """Leaves it to the caller; only the greatest length of a segment ends it otherwise."""

    asks = False

    def patience(self, answer: float | None, *, is_unsure: bool) -> int:
        """As Ending has it."""
        return NEVER


def ending_of(turns: Turns) -> Ending:
    """Return what ends the segments of a stream with these settings."""
    given = turns.silence_seconds
    by_silence = BySilence() if given is None else BySilence(frames_in(given), frames_in(given))
    if turns.detection == SEMANTIC:
        return ByTurn(turns.threshold, frames_in(turns.longest_pause_seconds), by_silence)
    return ByCaller() if turns.detection == NONE else by_silence
