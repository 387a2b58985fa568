"""One request: rows of audio that are decoded side by side and get one answer together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, LongAudio, Samples
from asrloop.engine.family import Family
from asrloop.engine.options import DEFAULTS, NO_DRAFT, Options
from asrloop.engine.outputs import Transcript, Words, tensors_of, words_for
from asrloop.engine.recording import Progress, Recording
from asrloop.engine.transcribing import transcript
from asrloop.engine.utterance import Utterance
from asrloop.errors import DecodeFailed, RequestError
from asrloop.spacing import joined


class Answered(NamedTuple):
    """A recording that was answered, in numbers."""

    outcome: str
    """``ok``, or the error's."""

    audio_seconds: float = 0.0
    has_speech: bool = True
    seconds: float | None = None
    """From the request's arrival to its answer; None after an error."""


class Request:
    """Rows, options, deadline, and in the end the answer. ``on_done`` is called once, when every row is finished.

    The first row that fails decides the answer; the engine then ends the others.
    """

    def __init__(
        self,
        rows: Sequence[Samples | LongAudio],
        on_done: Callable[["Request"], None],
        *,
        sample_rate: int = SAMPLE_RATE,
        options: Options = DEFAULTS,
        deadline: float | None = None,
        is_cancelled: Callable[[], bool] | None = None,
        key: str = "",
        outputs: frozenset[str] | None = None,
        missing_seconds: Sequence[float] = (),
        is_live: bool = False,
        start: float = 0.0,
        channels: Sequence[int] = (),
    ) -> None:
        """``rows`` are f32 [N] at ``sample_rate`` Hz, or longer ones that come bit by bit; ``deadline`` is a moment on the
        engine's clock, in seconds.

        ``is_cancelled`` is asked now and then on a thread of the engine's own; it may be slow.
        ``key`` is the name by which the caller cancels it; "" cannot be named.
        ``outputs`` names the tensors that the answer needs; None for all.
        ``missing_seconds`` says of each row how much its file claims and does not have; () where all is there.
        ``is_live`` where somebody is speaking: it goes before others, and its segments are decided elsewhere. So does a draft.
        ``channels`` says how many of ``rows``, one behind the other, are the channels of each row of the answer; () for one each.
        ``start`` is where the caller's audio begins, in seconds before that of ``rows``: what came first was left out.
        """
        self.options = options
        self.on_done = on_done
        self.deadline = deadline
        self.is_cancelled = is_cancelled
        self.key = key
        self.is_live = is_live or options.draft is not NO_DRAFT
        self.recordings: list[Recording] = []
        """One a row, or a channel of it, from :meth:`divide` on."""
        self.error: RequestError | None = None
        """The first; only the ledger writes it."""
        self.arrived_at = 0.0
        self._rows = list(rows)
        self._sample_rate = sample_rate
        self._start = start
        self._channels = channels or [1] * len(self._rows)
        self._outputs = outputs
        self._missing_seconds = missing_seconds or [0.0] * len(self._rows)

    def divide(self, whole_seconds: float) -> None:
        """Decide which rows are cut, before any work is made: those of more than ``whole_seconds``. Raises InvalidOption."""
        self.recordings = [
            Recording(
                row, self._sample_rate, self.options, whole_seconds, missing, is_live=self.is_live, start=self._start
            )
            for row, missing in zip(self._rows, self._missing_seconds, strict=True)
        ]
        self._rows = []

    @property
    def utterances(self) -> list[Utterance]:
        """Those that are there by now, of all rows in order."""
        return [utterance for recording in self.recordings for utterance in recording.utterances]

    def progress(self, family: Family[Any]) -> Progress:
        """Return the progress of all rows together.

        Channels of a row are heard side by side. Of their text nothing is told: a later word may stand before an earlier one's.
        """
        done, known, texts = 0.0, 0.0, []
        for recordings in self._rows_of_recordings():
            far = [recording.progress(family) for recording in recordings]
            done += sum(one.done for one in far) / len(far)
            known += max(one.known for one in far)
            texts += [far[0].text] if len(far) == 1 else []
        return Progress(done, known, joined(texts))

    def numbers(self, now: float) -> list[Answered]:
        """Return what the metrics need to know of each row; ``now`` is on the engine's clock."""
        if self.error is not None:
            return [Answered(self.error.outcome)] * len(self.recordings)
        seconds = now - self.arrived_at
        return [Answered("ok", one.audio_seconds, one.has_speech, seconds) for one in self.recordings]

    def close(self) -> None:
        """Let go of audio that was still to come."""
        for audio in [*self._rows, *(recording.long for recording in self.recordings)]:
            if isinstance(audio, LongAudio):
                audio.close()

    def result(self, family: Family[Any]) -> Mapping[str, NDArray[Any]] | RequestError:
        """Return the answer: the outputs, a row each, or why there are none."""
        try:
            return self.error or tensors_of(self.transcripts(family, words_for(self._outputs)), self._outputs)
        except Exception as error:  # such as a token that the vocabulary does not have: it concerns this request alone
            return DecodeFailed(f"the tokens could not be turned into text: {error!r}")

    def transcripts(self, family: Family[Any], words: Words = Words.ALL) -> list[Transcript]:
        """Return the transcript of each row."""
        return [transcript(recordings, family, words) for recordings in self._rows_of_recordings()]

    def _rows_of_recordings(self) -> Iterator[Sequence[Recording]]:
        """Yield the recordings of each row: one, or one a channel."""
        first = 0
        for channels in self._channels:
            yield self.recordings[first : first + channels]
            first += channels
