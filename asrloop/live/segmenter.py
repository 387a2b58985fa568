"""The policy of one stream of live audio: where its segments begin and end, what is decoded when, which events are told. No thread,
no clock, no model.

    hear(samples) -> frames, voice -> [open segment] -> decoding() -> somebody decodes -> decoded(...) -> events
                                                     -> question() -> the turn detector -> answered(...)

Decisions about segments depend on the audio and on what final decodings and the turn detector give, never on time, so that
audio that comes faster or in larger chunks is cut alike. Partials depend on time: they are made as often as decoding keeps up.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from math import inf
from typing import NamedTuple

import numpy as np

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.engine.turns import TURNS, Turns
from asrloop.live.agreement import Agreement
from asrloop.live.decodings import Decoding, Hypothesis, Question
from asrloop.live.endings import ASKS, UNANSWERED, ending_of
from asrloop.live.events import Event, SaidWord
from asrloop.speech.detector import FRAME
from asrloop.speech.detector import frames_in as _frames

SPECULATE = _frames(0.1)
"""After so much silence the segment is decoded as if it were over."""

SURE = 0.8
"""Least share of right words to expect of a text that is sure."""

FILL = np.zeros(round(0.2 * SAMPLE_RATE), np.float32)
"""Silence behind the audio of a last decoding: there is no time to wait for it, but a model that hears speech break off gets the
last words wrong more often."""

GOES_ON = 3
"""Frames of speech in a row with which a segment goes on after ``SPECULATE`` of silence. Half a second into a pause faint noise is
made as loud as speech was, and for a frame or two it is taken for it: one final in twenty came 0.5 s later."""

BELONGS_TO = _frames(1.5)
"""Speech so shortly before is decoded with it, its words being forced. A model that hears pieces between pauses of a
quarter of a second only gets half as many words again wrong; with what was said before, it is as good as on the whole recording."""

LEAST_PAUSE = 2
"""Frames of silence that end a segment shortly before it is too long; the silence that is waited for shrinks to it slowly."""


_CLOSING = ",.;:!?\u2026\u3001\u3002\uff0c\uff0e\uff1b\uff1a\uff01\uff1f"
"""Marks that end a part of a sentence, also the Chinese and Japanese ones. Others, such as quotes, may begin one."""


class _Said(NamedTuple):
    """A segment that is over."""

    begin: int
    end: int
    tokens: Sequence[int]


class _Told(NamedTuple):
    """What an event said of a segment."""

    stable: str = ""
    tail: str = ""
    pause: bool = False
    turn: float = UNANSWERED

    @property
    def has_text(self) -> bool:
        return bool(self.stable or self.tail)


class _Segment:
    """The open segment; frames count from the start of the stream."""

    def __init__(self, number: int, begin: int, at: int) -> None:
        self.number = number
        self.begin = begin
        self.speech_begin = at - 1
        self.speech_end = at
        """Behind the last frame with speech."""
        self.agreement = Agreement()
        self.draft: Sequence[int] = ()
        self.decoded_to = at
        """Behind the audio of the last decoding that was begun."""
        self.last: tuple[Decoding, Hypothesis] | None = None
        """The latest decoding that may be its last."""
        self.asked = 0
        """How often the turn detector was asked about the pause."""
        self.answers: list[float] = []
        """What it said."""
        self.told = _Told()
        """Its last event."""

    @property
    def turn(self) -> float | None:
        """What the turn detector said of the pause last; None while it has not."""
        return self.answers[-1] if self.answers else None


class Segmenter:
    """Cuts one stream of 16 kHz samples into segments. Not safe for threads."""

    def __init__(
        self,
        voice: Callable[[Samples], Samples],
        target_seconds: float,
        max_seconds: float,
        interval: float = 0.4,
        turns: Turns = TURNS,
    ) -> None:
        """``voice`` gives the probability of speech of each of some frames. Behind ``target_seconds`` of a segment ever shorter
        pauses end it, and ``max_seconds`` at the latest. ``interval`` seconds at least lie between partials. ``turns`` says what
        ends a segment before, and which frames are speech."""
        self.interval = interval
        self._voice = voice
        self._pad, self._speech = _frames(turns.padding_seconds), turns.speech_threshold
        self._ending = ending_of(turns)
        self._target, self._longest = _frames(target_seconds), _frames(max_seconds) - self._pad
        self._rest = np.zeros(0, np.float32)
        """Less than a frame."""
        self._audio = np.zeros((0, FRAME), np.float32)
        """Frames from ``_start`` on, as far as they are still needed."""
        self._probabilities = np.zeros(0, np.float32)
        self._start = 0
        self._at = 0
        """Behind the last frame that was decided on. Beyond lies what came while a decoding is waited for."""
        self._run = 0
        """Frames of speech in a row, the last of them before ``_at``."""
        self._floor = 0
        """No segment begins before."""
        self._segment: _Segment | None = None
        self._before: list[_Said] = []
        """Segments shortly before the open or next one, in order, with short pauses between."""
        self._count = 0
        self._ended = False
        self._cuts: deque[int] = deque()
        """Frames at which the caller ended what was open."""
        self._under_way: Decoding | None = None
        self._events: list[Event] = []

    @property
    def heard_seconds(self) -> float:
        """Seconds of audio so far."""
        return (self._known * FRAME + self._rest.size) / SAMPLE_RATE

    @property
    def recognised_seconds(self) -> float:
        """Seconds of audio that were decided on. What lies beyond waits for the decoding of a segment that is over."""
        return self._at * FRAME / SAMPLE_RATE

    @property
    def is_finished(self) -> bool:
        """True when it ended and everything was told but for ``events``."""
        return self._ended and self._segment is None and self._at == self._known

    def hear(self, samples: Samples) -> None:
        """Take the next samples, f32 [N]."""
        samples = np.concatenate([self._rest, samples])
        whole = samples.size // FRAME
        self._rest = samples[whole * FRAME :]
        if whole:
            frames = samples[: whole * FRAME].reshape(whole, FRAME)
            self._audio = np.concatenate([self._audio, frames])
            self._probabilities = np.concatenate([self._probabilities, self._voice(frames)])
        self._go_on()

    def end(self) -> None:
        """Take the end of the audio."""
        self.hear(np.zeros(-self._rest.size % FRAME, np.float32))
        self._ended = True
        self._go_on()

    def end_segment(self) -> None:
        """End the open segment behind the audio so far; does nothing where none is open."""
        self._cuts.append(self._known)
        self._go_on()

    def events(self) -> list[Event]:
        """Return the events to tell now, in order; of the partials of a segment only the latest."""
        events, self._events = self._events, []
        return events

    def decoding(self) -> Decoding | None:
        """Return what to decode now. One at a time: ``decoded`` or ``failed`` comes before the next, unless it is not wanted any
        more."""
        segment = self._segment
        if segment is None or (self._under_way is not None and self.wants(self._under_way)):
            return None
        is_last = self._is_last_due(segment)
        if is_last and not self._is_decoded(segment):
            silence = min(SPECULATE, self._patience(segment))
            end = min(segment.speech_end + silence, self._at if self._must_end else self._known)
            return self._begin(segment, end, segment.speech_end)
        if not is_last and self._at == self._known and self._at - segment.decoded_to >= _frames(self.interval):
            return self._begin(segment, self._at, None)
        return None

    def decoded(self, decoding: Decoding, found: Hypothesis) -> None:
        """Take the result of the decoding under way."""
        segment = self._segment
        if decoding is not self._under_way:
            return
        self._under_way = None
        if segment is None or segment.number != decoding.segment:
            return
        if decoding.prefix:
            found = _without_marks_of_before(found)
        segment.draft = found.tokens
        segment.agreement.take(found.words, found.probabilities if found.complete else None)
        is_last = decoding.over_at is not None
        if is_last:
            segment.last = decoding, found
        self._tell(segment, decoding.end, final=False, pause=is_last and self._is_decoded(segment))
        self._go_on()

    def question(self) -> Question | None:
        """Return the pause to ask the turn detector about now. One at a time: ``answered`` comes before the next."""
        segment = self._segment
        if segment is None or segment.asked > len(segment.answers) or not self._must_ask(segment):
            return None
        segment.asked += 1
        samples = self._audio[segment.begin - self._start : self._at - self._start].reshape(-1)
        return Question(samples, segment.number, segment.speech_end)

    def answered(self, question: Question, probability: float) -> None:
        """Take the probability, 0..1, that the speaker is done, or UNANSWERED: then silence decides."""
        segment = self._segment
        if segment is None or (segment.number, segment.speech_end) != (question.segment, question.speech_end):
            return
        segment.answers.append(probability)
        if segment.told.pause and not self._is_over(segment):
            self._tell(segment, self._at, final=False, pause=True)
        self._go_on()

    def failed(self, decoding: Decoding) -> None:
        """Give a decoding up; the next call of ``decoding`` may begin another."""
        if decoding is self._under_way:
            self._under_way = None

    def wants(self, decoding: Decoding) -> bool:
        """Return False when the result of a decoding is not needed any more: a pause came, and the last decoding must be made, or
        it was the last, and speech goes on."""
        segment = self._segment
        if segment is None or segment.number != decoding.segment:
            return False
        is_last = self._is_last_due(segment)
        return not is_last if decoding.over_at is None else is_last and decoding.over_at == segment.speech_end

    @property
    def _known(self) -> int:
        return self._start + self._probabilities.size

    @property
    def _must_end(self) -> bool:
        """True where the audio or the caller ends what is open."""
        return (self._ended and self._at == self._known) or (bool(self._cuts) and self._at == self._cuts[0])

    def _begin(self, segment: _Segment, end: int, over_at: int | None) -> Decoding:
        segment.decoded_to = end
        # What was said before costs time, which the last decoding is worth.
        before = [] if over_at is None else [one for one in self._before if end - one.begin <= self._longest]
        begin = before[0].begin if before else segment.begin
        samples = self._audio[begin - self._start : end - self._start].reshape(-1)
        if over_at is not None:
            samples = np.concatenate([samples, FILL])
        prefix = [token for one in before for token in one.tokens]
        before_samples = (segment.begin - begin) * FRAME
        forced = len(segment.agreement.stable)
        self._under_way = Decoding(
            samples, prefix, before_samples, segment.draft, forced, segment.number, begin, end, over_at
        )
        return self._under_way

    def _go_on(self) -> None:
        """Decide frame after frame, until a decoding must be waited for."""
        while True:
            if self._segment is not None and self._is_over(self._segment):
                if not self._is_decoded(self._segment):
                    break
                self._close(self._segment)
            elif self._segment is not None and self._must_ask(self._segment):
                break
            elif self._cuts and self._cuts[0] == self._at:
                self._cuts.popleft()
            elif self._at < self._known:
                self._look(float(self._probabilities[self._at - self._start]))
            else:
                break

    def _is_last_due(self, segment: _Segment) -> bool:
        """Return True when the segment is to be decoded as if it were over."""
        return self._must_end or self._at - segment.speech_end >= min(SPECULATE, self._patience(segment))

    def _patience(self, segment: _Segment) -> int:
        """Return the frames of silence that end it."""
        length = self._at - segment.begin
        if length >= self._longest:
            return 0
        left = (self._longest - length) / max(1, self._longest - self._target)
        most = self._ending.patience(segment.turn, is_unsure=self._is_unsure(segment))
        return most if left >= 1 else round(LEAST_PAUSE * (min(most, self._longest) / LEAST_PAUSE) ** left)

    def _must_ask(self, segment: _Segment) -> bool:
        """Return True when nothing is decided before the turn detector has judged the pause."""
        if not self._ending.asks or len(segment.answers) == len(ASKS) or self._must_end:
            return False
        return ASKS[len(segment.answers)] <= self._at - segment.speech_end < self._patience(segment)

    def _is_unsure(self, segment: _Segment) -> bool:
        """Return True when its last text, unless more speech comes, is there and likely to be wrong."""
        return segment.last is not None and self._is_decoded(segment) and segment.last[1].confidence < SURE

    def _is_over(self, segment: _Segment) -> bool:
        patience = self._patience(segment)
        may_go_on = self._run > 0 and patience > 0
        return self._must_end or (self._at - segment.speech_end >= patience and not may_go_on)

    def _is_decoded(self, segment: _Segment) -> bool:
        """Return True when its last decoding, unless more speech comes, is there."""
        return segment.last is not None and segment.last[0].over_at == segment.speech_end

    def _look(self, probability: float) -> None:
        """Decide on the next frame."""
        segment, at = self._segment, self._at
        self._at += 1
        self._run = self._run + 1 if probability >= self._speech else 0
        if segment is None:
            if self._run:
                self._segment = _Segment(self._count, max(self._floor, at - self._pad, self._start), self._at)
            else:
                if self._before and at - self._before[-1].end > BELONGS_TO:
                    self._before.clear()
                self._forget()
        elif self._run and (self._run >= GOES_ON or self._at - self._run - segment.speech_end < SPECULATE):
            segment.speech_end = self._at
            segment.asked, segment.answers = 0, []
            if segment.told.pause:
                self._tell(segment, self._at - self._run, final=False)  # behind the text there was silence

    def _close(self, segment: _Segment) -> None:
        if segment.last is None:
            raise AssertionError("a segment is over when its last decoding is there")
        decoding, found = segment.last
        segment.agreement.finish(found.words)
        if any(segment.agreement.stable) or segment.told.has_text:
            self._tell(segment, self._at, final=True, pause=True, words=_said(segment, decoding, found))
            self._count += 1
        end = segment.decoded_to
        self._before.append(_Said(segment.begin, end, found.tokens))
        self._segment, self._floor = None, end
        self._forget()

    def _forget(self) -> None:
        """Drop audio that is not needed any more."""
        while self._before and self._at - self._before[0].begin > self._longest:
            del self._before[0]
        before = min([self._at - self._pad, *(one.begin for one in self._before)])
        count = min(before - self._start, self._probabilities.size)
        if count > 0:
            self._audio, self._probabilities = self._audio[count:], self._probabilities[count:]
            self._start += count

    def _tell(
        self, segment: _Segment, end: int, *, final: bool, pause: bool = False, words: Sequence[SaidWord] = ()
    ) -> None:
        agreement = segment.agreement
        turn = segment.turn if pause and segment.turn is not None else UNANSWERED
        told = _Told("".join(agreement.stable).strip(), "".join(agreement.tail).strip(), pause, turn)
        if not final and (told == segment.told or not (told.has_text or segment.told.has_text)):
            return
        segment.told = told
        seconds = FRAME / SAMPLE_RATE
        speech = segment.speech_begin * seconds, segment.speech_end * seconds
        if self._events and not self._events[-1].final and self._events[-1].segment == segment.number:
            self._events.pop()
        times = segment.begin * seconds, end * seconds
        self._events.append(
            Event(segment.number, told.stable, told.tail, final, *times, speech, words, pause and not final, turn)
        )


def _said(segment: _Segment, decoding: Decoding, found: Hypothesis) -> list[SaidWord]:
    """Return the words of a segment that is over, where times are asked for.

    Stable words that its last decoding does not have take no time at its end: a family without drafts may hear fewer at last.
    """
    if not found.times:
        return []
    seconds = FRAME / SAMPLE_RATE
    begin, least, most = decoding.begin * seconds, segment.begin * seconds, decoding.end * seconds
    stable = segment.agreement.stable
    times, confidences = chain(found.times, repeat((inf, inf))), chain(found.confidences, repeat(0.0))
    words = zip(stable, times, confidences, strict=False)
    return [
        SaidWord(text.strip(), min(max(begin + start, least), most), min(max(begin + end, least), most), confidence)
        for text, (start, end), confidence in words
        if text
    ]


def _without_marks_of_before(found: Hypothesis) -> Hypothesis:
    """Return a hypothesis without the marks that its text begins with: they belong to what was said before, which is told."""
    first = [word.lstrip(_CLOSING) for word in found.words[:1]]
    return found._replace(words=[*first, *found.words[1:]])
