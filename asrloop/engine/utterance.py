"""State of one piece of audio on its way through the engine. Holds no policy and no tensors of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.errors import RequestError

if TYPE_CHECKING:
    from asrloop.engine.recording import Recording
    from asrloop.engine.request import Request


class State(Enum):
    """Where an utterance is; it moves downwards only, and may finish from anywhere."""

    WAITING = auto()
    ENCODING = auto()
    ENCODED = auto()
    RUNNING = auto()
    DECODED = auto()
    """All tokens are there; whether there is speech at all is not known yet."""

    FINISHED = auto()


class Ending(Enum):
    """Why a transcript goes no further."""

    ITSELF = auto()
    NO_SPEECH = auto()
    LIMIT = auto()
    REPETITION = auto()


class Finished(NamedTuple):
    """What became of an utterance, in numbers; times in seconds, None for a part it did not reach."""

    tokens: int
    queue_seconds: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    ending: Ending = Ending.ITSELF
    draft: int = 0
    """Tokens that were offered as its draft."""

    draft_accepted: int = 0


@dataclass(eq=False)
class Utterance:
    """A row of a request, or a window of one. Compared by identity. The engine's lock guards it until its request is answered."""

    recording: "Recording"
    samples: NDArray[np.float32]
    """f32 [N], mono, -1..1; none are left once they are being encoded."""

    sample_rate: int
    """Of ``samples``, in Hz."""

    start: float = 0.0
    """Where it begins in its recording, in seconds."""

    is_window: bool = False
    """Whether it is a part of a longer recording."""

    overlap_seconds: float = 0.0
    """How much of its beginning the window before has as well."""

    draft: Sequence[int] = ()
    """Token ids that decoding is likely to give."""

    given: int = 0
    """How many of them are no guess but stand."""

    said_before: int = 0
    """How many of its first tokens are of what was said before, and no part of the answer."""

    draft_accepted: int = 0
    """How many of them the family decided itself when it checked them."""

    state: State = State.WAITING
    slot: int | None = None
    encoded: object = None
    """What the family made of the samples, from its encode until its admission."""

    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    has_speech: bool | None = None
    """None until that is known."""

    ending: Ending = Ending.ITSELF
    error: RequestError | None = None

    # Moments on the engine's clock, in seconds.
    arrived_at: float = 0.0
    encode_started_at: float | None = None
    encoded_at: float | None = None
    admitted_at: float | None = None
    first_step_at: float | None = None
    finished_at: float | None = None

    def __post_init__(self) -> None:
        """Note how long the audio is: the samples do not stay."""
        self.audio_seconds = self.samples.size / self.sample_rate

    def take_samples(self) -> NDArray[np.float32]:
        """The samples, f32 [N]; from now on they belong to the caller alone."""
        samples, self.samples = self.samples, self.samples[:0].copy()
        return samples

    def drop_tokens(self, kept: int) -> None:
        """Keep the first ``kept`` tokens only."""
        del self.tokens[kept:], self.times[kept:], self.log_probs[kept:]

    @property
    def request(self) -> "Request":
        """Whose answer it is a part of."""
        return self.recording.request

    @property
    def place(self) -> str:
        """Where in a long recording, as an error's message begins; "" for a recording that is not cut."""
        return f"{self.start:.1f} to {self.start + self.audio_seconds:.1f} s: " if self.is_window else ""

    @property
    def is_finished(self) -> bool:
        """Whether the utterance has its transcript or its error."""
        return self.state is State.FINISHED

    def numbers(self) -> Finished:
        """What the metrics need to know of a finished utterance."""
        finished = Finished(
            len(self.tokens), ending=self.ending, draft=len(self.draft), draft_accepted=self.draft_accepted
        )
        started, encoded, admitted, ended = (
            self.encode_started_at, self.encoded_at, self.admitted_at, self.finished_at,
        )  # fmt: skip
        if started is None or encoded is None or admitted is None or ended is None:
            return finished
        return finished._replace(
            queue_seconds=started - self.arrived_at + admitted - encoded,
            encode_seconds=encoded - started,
            decode_seconds=ended - admitted,
        )
