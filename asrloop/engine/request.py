"""What a caller asked for: rows of audio that are decoded side by side and get one answer together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, LongAudio, Samples
from asrloop.engine.family import Family
from asrloop.engine.outputs import Transcript, tensors_of
from asrloop.engine.recording import Progress, Recording
from asrloop.engine.utterance import Utterance
from asrloop.errors import DecodeFailed, RequestError


class Request:
    """Owns its rows, its deadline and its first error. ``on_done`` is called once, when every row is finished.

    The first row that fails decides the answer; the engine then cancels the others.
    """

    def __init__(
        self,
        rows: Sequence[Samples | LongAudio],
        on_done: Callable[["Request"], None],
        *,
        sample_rate: int = SAMPLE_RATE,
        deadline: float | None = None,
        is_cancelled: Callable[[], bool] | None = None,
        key: str = "",
        drafts: Sequence[Sequence[int]] = (),
        given: int = 0,
        said_before: int = 0,
    ) -> None:
        """``rows`` are f32 [N] at ``sample_rate`` Hz, or longer ones that come bit by bit; ``deadline`` is a moment on the
        engine's clock, in seconds.

        ``is_cancelled`` is asked now and then on a thread of the engine's own; it may be slow.
        ``key`` is what the caller names it by to cancel it; "" cannot be named.
        ``drafts``, one a row or none at all, are token ids that decoding is likely to give: see ``Family.admit``. Those of
        audio that is longer than a window are not used. The first ``given`` tokens of each stand, and the first ``said_before``
        of these are no part of the answer.
        """
        self.recordings = [
            Recording(self, row, sample_rate, draft)
            for row, draft in zip(rows, drafts or [()] * len(rows), strict=True)
        ]
        for utterance in self.utterances:
            utterance.given, utterance.said_before = given, said_before
        self.on_done = on_done
        self.deadline = deadline
        self.is_cancelled = is_cancelled
        self.key = key
        self.error: RequestError | None = None
        self.arrived_at = 0.0
        self.seconds_under_way = 0.0
        """Of audio in utterances that are not finished: the more, the later comes the turn of the next."""

    @property
    def utterances(self) -> list[Utterance]:
        """Those that are there by now, of all rows in order."""
        return [utterance for recording in self.recordings for utterance in recording.utterances]

    @property
    def is_finished(self) -> bool:
        """Whether every row has its transcript or its error."""
        return all(recording.is_finished for recording in self.recordings)

    def progress(self, family: Family[Any]) -> Progress:
        """How far it is, all rows together."""
        done, known, texts = zip(*(recording.progress(family) for recording in self.recordings), strict=True)
        return Progress(sum(done), sum(known), " ".join(filter(None, texts)))

    def release(self) -> None:
        """Let go of the rows' way back here, and of what was still to be heard, once it is answered or refused.

        A circle of references would keep it and its audio until Python's collector runs, which is ever rarer.
        """
        for recording in self.recordings:
            for utterance in recording.utterances:
                del utterance.recording
            del recording.request
            if recording.long is not None:
                recording.long.close()

    def result(self, family: Family[Any]) -> Mapping[str, NDArray[Any]] | RequestError:
        """The answer: all outputs, a row each, or why there are none."""
        try:
            return self.error or tensors_of(self.transcripts(family))
        except Exception as error:  # such as a token that the vocabulary does not have: it concerns this request alone
            return DecodeFailed(f"the tokens could not be turned into text: {error!r}")

    def transcripts(self, family: Family[Any]) -> list[Transcript]:
        """What was heard, a row each."""
        return [recording.transcript(family) for recording in self.recordings]
