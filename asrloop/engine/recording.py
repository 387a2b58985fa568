"""One row of a request: audio of any length, as utterances in the order in which they are heard, and the transcript they make.

Audio that fits one window is one utterance, or one for each of its parts where long pauses part it. What is longer is cut while
it comes in. Its utterances are joined again here.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from asrloop.audio import SAMPLE_RATE, LongAudio, Samples, long_audio
from asrloop.engine.family import Family
from asrloop.engine.options import NO_DRAFT, Options
from asrloop.engine.outputs import Segment, Transcript, TranscriptWord, Words
from asrloop.engine.utterance import Ending, Rank, Span, Utterance
from asrloop.engine.word_times import token_spans
from asrloop.errors import InvalidOption
from asrloop.spacing import joined
from asrloop.speech.joining import seam
from asrloop.speech.pauses import Spoken
from asrloop.speech.windows import Window


class Progress(NamedTuple):
    """Progress of a request."""

    done: float = 0.0
    """Seconds of audio."""

    known: float = 0.0
    """Seconds of audio in all, as far as that is known; 0 for no such request."""

    text: str = ""
    """The part of the transcript that will not change."""


class Recording:
    """Owns its utterances. The engine's lock guards it until its request is answered."""

    def __init__(
        self,
        audio: Samples | LongAudio,
        sample_rate: int,
        options: Options,
        whole_seconds: float,
        missing_seconds: float = 0.0,
        *,
        is_live: bool = False,
        start: float = 0.0,
    ) -> None:
        """``audio`` of more than ``whole_seconds``, or that comes bit by bit, is to be cut. Raises InvalidOption.

        ``start`` are the seconds of the caller's audio before what is not cut."""
        self.options = options
        self._missing_seconds = missing_seconds
        """Seconds that the file claims and does not have, apart from those of ``long``."""
        self.utterances: list[Utterance] = []
        self.audio_seconds = 0.0
        """Seconds of audio received so far."""
        self.long: LongAudio | None = None
        """Audio that is to be cut; None for a recording of one utterance."""
        self._parts: list[_Part] = []
        """Parts made of the first finished utterances, already joined."""
        self._texts: list[str] = []
        """Texts of all parts but the last, which the next utterance may still shorten."""
        self._joined = 0
        """Number of utterances that were joined."""
        if isinstance(audio, LongAudio) or audio.size > whole_seconds * sample_rate:
            if options.draft is not NO_DRAFT:
                raise InvalidOption(
                    f"PREFIX or DRAFT came with audio that is cut: send at most {whole_seconds:g} s with them"
                )
            self.long = audio if isinstance(audio, LongAudio) else long_audio(audio, sample_rate)
        else:
            self.audio_seconds = audio.size / sample_rate
            rank = Rank.LIVE if is_live else Rank.WHOLE
            self.utterances.append(Utterance(audio, sample_rate, options, start=start, rank=rank))

    @property
    def expected_seconds(self) -> float:
        """Length of all its audio as far as that is known."""
        return max(self.audio_seconds, self.long.seconds if self.long else 0.0)

    @property
    def is_whole(self) -> bool:
        """False when its file claims more audio than there is. Known when all is received."""
        return not self._missing_seconds and not (self.long and self.long.missing())

    def part(self, utterance: Utterance, found: Spoken) -> list[Utterance]:
        """Make its only utterance, whose samples were taken, the first part. Returns one for each other part."""
        first, *others = found.parts
        utterance.start = first.start / SAMPLE_RATE
        added = [self.add(part, Rank.WHOLE) for part in others]
        utterance.spoken = found.start, utterance.start + first.samples.size / SAMPLE_RATE
        last = added[-1] if added else utterance
        last.spoken = last.spoken[0] if last.spoken else last.start, found.end
        return added

    def add(self, window: Window, rank: Rank = Rank.WINDOW) -> Utterance:
        """Make the next window, which is known to hold speech, or the next part an utterance."""
        utterance = Utterance(
            window.samples,
            SAMPLE_RATE,
            self.options,
            start=window.start / SAMPLE_RATE,
            rank=rank,
            is_part=rank is Rank.WHOLE,
            overlap_seconds=window.overlap / SAMPLE_RATE,
            is_speech=rank is Rank.WINDOW,
        )
        utterance.audio_seconds -= window.filling / SAMPLE_RATE
        self.utterances.append(utterance)
        return utterance

    def take_language(self, language: str) -> None:
        """Keep the language that was found in its first speech for all that follows, unless the caller named one."""
        if language and not self.options.language:
            self.options = replace(self.options, language=language)

    @property
    def has_speech(self) -> bool:
        """True when any was found."""
        return any(utterance.ending is not Ending.NO_SPEECH for utterance in self.utterances)

    def progress(self, family: Family[Any]) -> Progress:
        """Return its progress."""
        open_from = next((one.start for one in self.utterances if not one.is_finished), self.audio_seconds)
        self._join(family)
        return Progress(open_from, self.expected_seconds, joined(self._texts))

    def transcript(self, family: Family[Any], words: Words = Words.ALL) -> Transcript:
        """Return the transcript. Its tokens have texts and probabilities only where they have times."""
        self._join(family)
        parts = _timed(self._parts, family)
        log_probs = [value for part in parts for value in part.log_probs]
        tokens = [token for part in parts for token in part.tokens]
        times = [span.start for part in parts for span in part.spans]
        segments = [Segment(text, part.start, part.end) for part in parts if (text := family.text(part.tokens))]
        return Transcript(
            joined(segment.text for segment in segments),
            tokens,
            times,
            [family.piece(token) for token in tokens] if times else [],
            family.confidence(log_probs),
            self.is_whole and all(one.ending.is_complete for one in self.utterances),
            segments,
            [word for part in parts for word in part.words(family)]
            if words > (Words.NONE if times else Words.TIMED)
            else [],
            self.options.language or _only(family.info.languages),
            self.audio_seconds,
            log_probs if times else [],
        )

    def _join(self, family: Family[Any]) -> None:
        """Join the finished utterances in order: words that two of them heard in the same audio are kept once."""
        for utterance in self.utterances[self._joined :]:
            if not utterance.is_finished:
                return
            self._joined += 1
            start = utterance.start
            spoken = utterance.spoken or (start, start + utterance.audio_seconds)
            part = _Part(*spoken, utterance, 0, len(utterance.tokens))
            if utterance.options.draft.before:
                part = part.between(utterance.options.draft.before, len(part.tokens))
            if utterance.overlap_seconds and self._parts:
                before, middle = self._parts[-1], start + utterance.overlap_seconds / 2
                kept, dropped = seam(family.words(before.tokens), family.words(part.tokens))
                self._parts[-1] = before.between(0, kept)._replace(end=middle)
                part = part.between(dropped, len(part.tokens))._replace(start=middle)
            if self._parts:
                self._texts.append(family.text(self._parts[-1].tokens))
            self._parts.append(part)


def _only(languages: Sequence[str]) -> str:
    return languages[0] if len(languages) == 1 else ""


def _timed(parts: Sequence["_Part"], family: Family[Any]) -> list["_Part"]:
    """Return parts with the times of their tokens. Each holds its own, and no two overlap: where two windows heard the same audio,
    the seam goes between the words that were kept of the one and of the other."""
    timed: list[_Part] = []
    for each in parts:
        part = each._replace(spans=each.spans_in(family))
        if timed and part.utterance.overlap_seconds:
            before = timed[-1]
            end = before.spans[-1].end if before.spans else -math.inf
            start = part.spans[0].start if part.spans else math.inf
            middle = min(max(part.start, end), start) if end <= start else (end + start) / 2
            timed[-1] = before._replace(end=middle, spans=_squeezed(before.spans, (start, end), (start, middle)))
            part = part._replace(start=middle, spans=_squeezed(part.spans, (start, end), (middle, end)))
        timed.append(part)
    return [part.holding_its_tokens() for part in timed]


def _squeezed(spans: Sequence[Span], bounds: tuple[float, float], others: tuple[float, float]) -> Sequence[Span]:
    """Return spans whose edges within ``bounds``, if those are in order, lie within ``others`` in the same shares."""
    start, end = bounds
    if start >= end:
        return spans

    def moved(edge: float) -> float:
        share = (edge - start) / (end - start)
        return others[0] + share * (others[1] - others[0]) if 0 <= share <= 1 else edge

    return [Span(moved(span.start), moved(span.end)) for span in spans]


class _Part(NamedTuple):
    """The kept tokens of an utterance; times in seconds from the start of the recording."""

    start: float
    end: float
    utterance: Utterance
    first: int
    """First of the kept tokens."""

    stop: int
    """Behind the last of them."""

    spans: Sequence[Span] = ()
    """One a token, where the family gives times or they were asked for. Where nobody asked, an end is no more than the start."""

    @property
    def tokens(self) -> Sequence[int]:
        return self.utterance.tokens[self.first : self.stop]

    @property
    def log_probs(self) -> Sequence[float]:
        return self.utterance.log_probs[self.first : self.stop]

    def between(self, first: int, end: int) -> "_Part":
        """Return it with some of its tokens."""
        return self._replace(first=self.first + first, stop=min(self.first + end, self.stop))

    def words(self, family: Family[Any]) -> list[TranscriptWord]:
        """Return its words; each is as probable as its least probable token."""
        spans, log_probs = self.spans, self.log_probs
        found = []
        for word in family.words(self.tokens):
            times = (spans[word.first][0], spans[word.end - 1][1]) if spans else None
            least = min(log_probs[word.first : word.end])
            found.append(TranscriptWord(word.text, math.exp(least), times, family.word_confidence(least)))
        return found

    def holding_its_tokens(self) -> "_Part":
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
