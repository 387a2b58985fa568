"""State of one utterance on its way through the engine. Holds no policy and no tensors of a model."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asrloop.errors import UtteranceError


@dataclass(eq=False)
class Utterance:
    """One row of audio and what became of it. Compared by identity.

    The engine's lock guards ``slot``, ``error`` and ``finished_at`` until ``on_done`` is called, once, with the utterance.
    """

    samples: NDArray[np.float32]
    """f32 [N], 16 kHz mono."""

    on_done: Callable[["Utterance"], None]
    is_cancelled: Callable[[], bool] = lambda: False
    """Polled now and then from the engine's own thread; may be slow."""

    deadline: float | None = None
    """The caller's limit on the engine's clock, in seconds."""

    arrived_at: float = 0.0
    encode_started_at: float | None = None
    encoded_at: float | None = None
    admitted_at: float | None = None
    first_step_at: float | None = None
    finished_at: float | None = None

    encoded: object = None
    """What the family made of the samples, from its encode until its admission."""

    slot: int | None = None
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    error: UtteranceError | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the utterance has its transcript or its error."""
        return self.finished_at is not None

    @property
    def outcome(self) -> str:
        """Label in the metrics: ``ok`` or the error's."""
        return "ok" if self.error is None else self.error.outcome
