"""One row of a request: audio of any length, as utterances in the order in which they are heard. Holds no policy.

Audio that fits one window is one utterance. What is longer is cut while it comes in, and its utterances are joined again here.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from asrloop.audio import SAMPLE_RATE, LongAudio, Samples, long_audio
from asrloop.engine.family import Family
from asrloop.engine.outputs import Segment, Transcript
from asrloop.engine.utterance import Ending, Utterance
from asrloop.speech.joining import seam, word_starts
from asrloop.speech.windows import Window

if TYPE_CHECKING:
    from asrloop.engine.request import Request


class Answered(NamedTuple):
    """What became of a recording, in numbers."""

    outcome: str
    """``ok``, or the error's."""

    audio_seconds: float = 0.0
    has_speech: bool = True
    seconds: float | None = None
    """From the request's arrival to now; None where it was not answered well."""


class Progress(NamedTuple):
    """How far a request is."""

    done: float = 0.0
    """Seconds of audio."""

    known: float = 0.0
    """Of these in all, as far as that is known; 0 for no such request."""

    text: str = ""
    """What will not change of the transcript."""


class Recording:
    """Owns its utterances. The engine's lock guards it until its request is answered."""

    def __init__(
        self, request: "Request", audio: Samples | LongAudio, sample_rate: int, draft: Sequence[int] = ()
    ) -> None:
        self.request = request
        self.utterances: list[Utterance] = []
        self.audio_seconds = 0.0
        """As far as it was heard."""
        self.is_cut = False
        """Whether all its utterances are there."""
        self.under_way = 0
        """Utterances that are not finished."""
        self._parts: list[_Part] = []
        """Of the first utterances, joined as they were finished."""
        self._texts: list[str] = []
        """Of all parts but the last, which the next utterance may yet shorten."""
        self._joined = 0
        """How many utterances these come from."""
        self.long: LongAudio | None = None
        if isinstance(audio, LongAudio):
            self.long = audio
        else:
            self.audio_seconds = audio.size / sample_rate
            self._add(Utterance(self, audio, sample_rate, draft=draft))
            self.is_cut = True

    def make_long(self) -> None:
        """Cut it, although all of it is there already."""
        (whole,) = self.utterances
        self.utterances.clear()
        self.under_way, self.is_cut, self.audio_seconds = 0, False, 0.0
        self.long = long_audio(whole.take_samples(), whole.sample_rate)

    def add(self, window: Window) -> Utterance:
        """The next window as an utterance. That it has speech is known."""
        utterance = Utterance(self, window.samples, SAMPLE_RATE, window.start / SAMPLE_RATE, is_window=True)
        utterance.overlap_seconds = window.overlap / SAMPLE_RATE
        utterance.has_speech = True
        self._add(utterance)
        return utterance

    def _add(self, utterance: Utterance) -> None:
        self.utterances.append(utterance)
        self.under_way += 1

    @property
    def is_finished(self) -> bool:
        """Whether every utterance has its tokens or its error, and no more will come."""
        return self.is_cut and not self.under_way

    @property
    def has_speech(self) -> bool:
        """Whether any was found."""
        return any(utterance.ending is not Ending.NO_SPEECH for utterance in self.utterances)

    def numbers(self, now: float) -> Answered:
        """What the metrics need to know when it is answered; ``now`` is on the engine's clock."""
        error = self.request.error
        if error:
            return Answered(error.outcome)
        return Answered("ok", self.audio_seconds, self.has_speech, now - self.request.arrived_at)

    def progress(self, family: Family[Any]) -> Progress:
        """How far it is."""
        open_from = next((one.start for one in self.utterances if not one.is_finished), self.audio_seconds)
        known = max(self.audio_seconds, self.long.seconds if self.long else 0.0)
        self._join(family)
        return Progress(open_from, known, " ".join(filter(None, self._texts)))

    def transcript(self, family: Family[Any]) -> Transcript:
        """What was heard. Pieces only where the family gives times."""
        self._join(family)
        parts = self._parts
        tokens = [token for part in parts for token in part.tokens]
        times = [time for part in parts for time in part.times]
        segments = [Segment(text, part.start, part.end) for part in parts if (text := family.text(part.tokens))]
        return Transcript(
            " ".join(segment.text for segment in segments),
            tokens,
            times,
            [family.piece(token) for token in tokens] if times else [],
            family.confidence([value for part in parts for value in part.log_probs]),
            all(one.ending in (Ending.ITSELF, Ending.NO_SPEECH) for one in self.utterances),
            segments,
            [value for part in parts for value in part.word_probabilities(family)],
        )

    def _join(self, family: Family[Any]) -> None:
        """Take in the utterances that are finished, in order: what two of them heard of the same audio is in one part only."""
        for utterance in self.utterances[self._joined :]:
            if not utterance.is_finished:
                return
            self._joined += 1
            start, end = utterance.start, utterance.start + utterance.audio_seconds
            times = [start + time for time in utterance.times]
            part = _Part(start, end, utterance.tokens, times, utterance.log_probs)
            if utterance.said_before:
                part = part.between(utterance.said_before, len(part.tokens))
            if utterance.overlap_seconds and self._parts:
                before, middle = self._parts[-1], start + utterance.overlap_seconds / 2
                kept, dropped = seam([*map(family.piece, before.tokens)], [*map(family.piece, part.tokens)])
                self._parts[-1] = before.between(0, kept)._replace(end=middle)
                part = part.between(dropped, len(part.tokens))._replace(start=middle)
            if self._parts:
                self._texts.append(family.text(self._parts[-1].tokens))
            self._parts.append(part)


class _Part(NamedTuple):
    """What stays of an utterance; times in seconds from the start of the recording."""

    start: float
    end: float
    tokens: Sequence[int]
    times: Sequence[float]
    log_probs: Sequence[float]

    def between(self, first: int, end: int) -> "_Part":
        """Some of its tokens."""
        kept = slice(first, end)
        return self._replace(tokens=self.tokens[kept], times=self.times[kept], log_probs=self.log_probs[kept])

    def word_probabilities(self, family: Family[Any]) -> list[float]:
        """For each word that of its least probable token."""
        starts = word_starts([*map(family.piece, self.tokens)])
        return [math.exp(min(self.log_probs[start:end])) for start, end in pairwise([*starts, len(self.tokens)])]
