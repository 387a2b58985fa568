"""The table of drafts counts what was decided, by a family whose decisions are known."""

from collections.abc import Sequence

import numpy as np
from asrloop_bench.figures.drafts import INTERVAL_SECONDS, measured, table
from numpy.typing import NDArray

from asrloop.engine.family import Emission

INTERVAL = round(INTERVAL_SECONDS * 16_000)


class Counting:
    """Decides a token for each interval of audio, 0, 1, 2, ..., and takes what is right of a draft."""

    vocabulary_size, takes_drafts = 100, True

    def __init__(self, *, lies: bool = False) -> None:
        self.lies = lies
        self.left: list[int] = []

    def encode(self, samples: NDArray[np.float32], *, alone: bool = False) -> list[int]:
        return list(range(samples.size // INTERVAL))

    def admit(self, slot: int, encoded: list[int], draft: Sequence[int] = (), given: int = 0) -> Emission:
        right = encoded[: len(draft)] if list(draft) == encoded[: len(draft)] else []
        self.left = encoded[len(right) :]
        return Emission([99 for _ in right] if self.lies else right, (), done=False, log_probs=[-0.5] * len(right))

    def step(self, slots: Sequence[int]) -> list[Emission]:
        if not self.left:
            return [Emission((), (), done=True)]
        return [Emission([self.left.pop(0)], (), done=False, log_probs=[-0.5])]

    def confidence(self, log_probs: Sequence[float]) -> float:
        return 1.0

    def piece(self, token: int) -> str:
        return str(token)

    def text(self, tokens: Sequence[int]) -> str:
        return str(tokens)


def test_what_was_saved_and_that_nothing_changed() -> None:
    clips = [np.zeros(4 * INTERVAL + 100, np.float32), np.zeros(2 * INTERVAL, np.float32)]
    text = table(measured(Counting(), clips), len(clips))
    assert "| 0 of 6, 0 of 13 |" in text
    # Beginnings of 1, 2, 3, 4 and of 1, 2 tokens; a step each and one for the end; drafts of 1, 2, 3 and 1 are all right.
    assert "| 100%; 12 of 19 |" in text
    assert "drafts of 10 to 19 tokens | no such draft |" in text


def test_a_draft_that_changes_a_text_is_counted() -> None:
    text = table(measured(Counting(lies=True), [np.zeros(3 * INTERVAL, np.float32)]), 1)
    assert "| 2 of 3, 0 of 6 |" in text
    assert "| 0%;" in text
