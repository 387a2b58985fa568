"""What a recording keeps of an utterance, with times of its tokens. Knows no request."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from asrloop.engine.family import Family
from asrloop.engine.outputs import TranscriptWord
from asrloop.engine.utterance import Span, Utterance
from asrloop.engine.word_times import token_spans


class Part(NamedTuple):
    """The kept tokens of an utterance; times in seconds from the start of the recording."""

    start: float
    end: float
    utterance: Utterance
    first: int
    """First of the kept tokens."""

    stop: int
    """Behind the last of them."""

    speaker: int = -1
    """Who says it; -1 where that is unknown."""

    spans: Sequence[Span] = ()
    """One a token, where the family gives times or they were asked for. Where nobody asked, an end is no more than the start."""

    @property
    def tokens(self) -> Sequence[int]:
        return self.utterance.tokens[self.first : self.stop]

    @property
    def log_probs(self) -> Sequence[float]:
        return self.utterance.log_probs[self.first : self.stop]

    def between(self, first: int, end: int) -> "Part":
        """Return it with some of its tokens."""
        stop = min(self.first + end, self.stop)
        return self._replace(first=self.first + first, stop=stop, spans=self.spans[first:end])

    def words(self, family: Family[Any]) -> list[TranscriptWord]:
        """Return its words; each is as probable as its least probable token."""
        spans, log_probs = self.spans, self.log_probs
        found = []
        for word in family.words(self.tokens):
            times = (spans[word.first][0], spans[word.end - 1][1]) if spans else None
            least = min(log_probs[word.first : word.end])
            found.append(TranscriptWord(word.text, math.exp(least), times, family.word_confidence(least), self.speaker))
        return found

    def holding_its_tokens(self) -> "Part":
        """Return it with bounds that hold its tokens: it was found by its level, and a faint word may lie before or behind."""
        if not self.spans:
            return self
        return self._replace(start=min(self.start, self.spans[0].start), end=max(self.end, self.spans[-1].end))

    def spans_in(self, family: Family[Any]) -> list[Span]:
        """Return ``spans``, of the family or found by the words' alignment."""
        utterance = self.utterance
        asked = utterance.options.word_times
        found = token_spans(utterance, family) if asked else [Span(time, time) for time in utterance.times]
        return [Span(utterance.start + start, utterance.start + end) for start, end in found[self.first : self.stop]]


def timed(parts: Sequence["Part"], family: Family[Any]) -> list["Part"]:
    """Return parts with the times of their tokens. Each holds its own, and no two overlap: where two windows heard the same audio,
    the seam goes between the words that were kept of the one and of the other."""
    found: list[Part] = []
    for each in parts:
        part = each._replace(spans=each.spans_in(family))
        if found and part.utterance.overlap_seconds:
            before = found[-1]
            end = before.spans[-1].end if before.spans else -math.inf
            start = part.spans[0].start if part.spans else math.inf
            middle = min(max(part.start, end), start) if end <= start else (end + start) / 2
            found[-1] = before._replace(end=middle, spans=_squeezed(before.spans, (start, end), (start, middle)))
            part = part._replace(start=middle, spans=_squeezed(part.spans, (start, end), (middle, end)))
        found.append(part)
    return [part.holding_its_tokens() for part in found]


def _squeezed(spans: Sequence[Span], bounds: tuple[float, float], others: tuple[float, float]) -> Sequence[Span]:
    """Return spans whose edges within ``bounds``, if those are in order, lie within ``others`` in the same shares."""
    start, end = bounds
    if start >= end:
        return spans

    def moved(edge: float) -> float:
        share = (edge - start) / (end - start)
        return others[0] + share * (others[1] - others[0]) if 0 <= share <= 1 else edge

    return [Span(moved(span.start), moved(span.end)) for span in spans]
