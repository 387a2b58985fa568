"""One row of a request, or a channel of it: audio of any length, as utterances in the order in which they are heard.

Audio that fits one window is one utterance, or one for each of its parts where long pauses part it. What is longer is cut while
it comes in. Its utterances are joined again here.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from asrloop.audio import SAMPLE_RATE, LongAudio, Samples, long_audio
from asrloop.engine.attribution import Diarizer, SpeakerTurn
from asrloop.engine.family import Family
from asrloop.engine.options import NO_DRAFT, Options
from asrloop.engine.parts import Part, timed
from asrloop.engine.utterance import Ending, Rank, Utterance
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
        self._parts: list[Part] = []
        """Parts made of the first finished utterances, already joined."""
        self._texts: list[str] = []
        """Texts of all parts but the last, which the next utterance may still shorten."""
        self._done = 0.0
        """Seconds that were told to be done. The next window may begin before all that was received by then."""
        self._joined = 0
        """Number of utterances that were joined."""
        self.diarizer: Diarizer | None = None
        """Hears who speaks, until all is heard."""
        self.turns: Sequence[SpeakerTurn] | None = None
        """Who spoke when; None where nobody asked, or all is not heard yet."""
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
    def has_more(self) -> bool:
        """True where more is to come than the utterances that are there: windows, or who spoke."""
        return self.long is not None or self.diarizer is not None

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
        self._done = max(self._done, open_from)
        self._join(family)
        return Progress(self._done, self.expected_seconds, joined(self._texts))

    def parts(self, family: Family[Any]) -> list[Part]:
        """Return what was said, once all is finished, in order."""
        self._join(family)
        return timed(self._parts, family)

    def _join(self, family: Family[Any]) -> None:
        """Join the finished utterances in order: words that two of them heard in the same audio are kept once."""
        for utterance in self.utterances[self._joined :]:
            if not utterance.is_finished:
                return
            self._joined += 1
            start = utterance.start
            spoken = utterance.spoken or (start, start + utterance.audio_seconds)
            part = Part(*spoken, utterance, 0, len(utterance.tokens))
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
