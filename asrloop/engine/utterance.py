"""State of one piece of audio on its way through the engine. Holds no policy and no tensors of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.family import Evidence
from asrloop.engine.options import DEFAULTS, Options


class State(Enum):
    """Stage of an utterance. Stages follow in this order; most begin with WAITING, and FINISHED may follow any of them."""

    HELD = auto()
    """Its recording has no language yet; an earlier utterance is decoded to find it."""

    WAITING = auto()
    ENCODING = auto()
    ENCODED = auto()
    RUNNING = auto()
    ENDING = auto()
    """Its tokens are complete; the family has not freed its slot yet."""

    GATED = auto()
    """Its transcript is complete; the speech gate has not answered yet."""

    FINISHED = auto()


class Rank(IntEnum):
    """Who waits for it. The smaller goes first."""

    LIVE = 0
    """Somebody is speaking."""

    WHOLE = 1
    """A recording that is not cut, or a part of one behind a long pause."""

    WINDOW = 2
    """A window of a longer recording."""


class Ending(Enum):
    """Why decoding stopped."""

    END_OF_TEXT = auto()
    NO_SPEECH = auto()
    LIMIT = auto()
    REPETITION = auto()

    @property
    def is_complete(self) -> bool:
        """False when words may be missing."""
        return self in (Ending.END_OF_TEXT, Ending.NO_SPEECH)


class Finished(NamedTuple):
    """An utterance that ended, in numbers; times in seconds, None for a part it did not reach."""

    tokens: int
    queue_seconds: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    ending: Ending = Ending.END_OF_TEXT
    draft: int = 0
    """Tokens of its draft."""

    draft_accepted: int = 0
    again: bool = False
    """True when it was decoded once more."""


class Span(NamedTuple):
    """When a token was spoken, in seconds from the start of its utterance."""

    start: float
    end: float


@dataclass(eq=False)
class Utterance:
    """A row of a request, or a window or part of one. Compared by identity. The engine's lock guards it until its request is
    answered."""

    samples: NDArray[np.float32]
    """f32 [N], mono, -1..1; empty from the start of its encoding on."""

    sample_rate: int
    """Rate of ``samples`` in Hz."""

    options: Options = DEFAULTS
    start: float = 0.0
    """Start in its recording, in seconds."""

    rank: Rank = Rank.WHOLE
    is_part: bool = False
    """True for what follows a long pause in short audio that is being worked on already."""

    overlap_seconds: float = 0.0
    """Length of its beginning that the window before holds as well."""

    spoken: tuple[float, float] | None = None
    """Start and end of its speech in its recording, in seconds; None for all of it."""

    is_speech: bool = False
    """True when it is known to hold speech: found when it was cut, or by the gate."""

    draft_accepted: int = 0
    """Leading tokens of its draft that the family decided itself."""

    is_again: bool = False
    """True while it is decoded once more, as the family asked: its first tokens looked wrong."""

    wanted_again: NDArray[np.float32] | None = None
    """16 kHz samples for that, while the speech gate has not answered."""

    state: State = State.WAITING
    batch: int | None = None
    """Number of the batch that it has a slot of."""

    slot: int | None = None
    encoded: object = None
    """The family's encoding, until its admission."""

    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    evidence: Evidence | None = None
    """Of its tokens, where the times of words are asked for and steps give none."""

    quiet: NDArray[np.bool_] | None = None
    """Steps of ``speech.silence`` without speech, where the times of words are asked for."""

    spans: Sequence[Span] | None = None
    """One a token, from the first time that somebody asks for them."""

    language: str = ""
    ending: Ending = Ending.END_OF_TEXT

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
        """Return the samples, f32 [N], and keep none."""
        samples, self.samples = self.samples, self.samples[:0].copy()
        return samples

    def start_again(self, samples: NDArray[np.float32]) -> None:
        """Forget what was decided, to be decoded once more from ``samples``, which are at 16 kHz."""
        self.samples, self.sample_rate, self.is_again = samples, SAMPLE_RATE, True
        self.drop_tokens(0)
        self.ending = Ending.END_OF_TEXT
        self.draft_accepted = 0
        # Those of two decodings do not go together: where the caller leaves before the second ends, times would be negative.
        self.encode_started_at = self.encoded_at = self.admitted_at = self.first_step_at = None

    def drop_tokens(self, kept: int) -> None:
        """Keep the first ``kept`` tokens only."""
        del self.tokens[kept:], self.times[kept:], self.log_probs[kept:]

    @property
    def may_be_parted(self) -> bool:
        """True where long pauses part it before it is encoded: live audio was parted elsewhere, windows were cut at pauses."""
        return self.rank is Rank.WHOLE and not self.is_part and not self.is_again

    @property
    def is_under_way(self) -> bool:
        """True for a part or a second decoding of audio that was taken on before: it is never refused, nor counted as new."""
        return self.is_part or self.is_again

    @property
    def place(self) -> str:
        """Start of an error message: its place in a long recording, or "" for a recording that is not cut."""
        return f"{self.start:.1f} to {self.start + self.audio_seconds:.1f} s: " if self.rank is Rank.WINDOW else ""

    @property
    def is_finished(self) -> bool:
        """True when it has its transcript or its error."""
        return self.state is State.FINISHED

    def numbers(self) -> Finished:
        """Return what the metrics need to know of a finished utterance."""
        finished = Finished(
            len(self.tokens),
            ending=self.ending,
            draft=len(self.options.draft.tokens),
            draft_accepted=self.draft_accepted,
            again=self.is_again,
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
