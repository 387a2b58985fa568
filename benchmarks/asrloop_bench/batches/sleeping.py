"""A family whose graphs sleep for times that a real model took: it asks the machine for time, and not for processors.

A sleeping thread lets go of the interpreter, as one that runs a graph does. So an engine with many batches can be measured on
a machine of few cores: all that it does itself is real.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.config import Lengths
from asrloop.engine.family import NOTHING, Emission, Ended, FamilyInfo, Word
from asrloop.engine.options import Options
from asrloop.families.entry import FamilyEntry
from asrloop.families.registry import DESCRIPTION, FORMAT

INFO = FamilyInfo(windows=Lengths(10.0, 15.0), family="sleeping")
ROWS = (1, 2, 4, 8, 16)
"""Numbers of rows whose steps are timed; what is between is interpolated."""


@dataclass(frozen=True)
class Times:
    """What a clip took, in seconds, and how many tokens it has."""

    encode: float
    """To encode it and to listen for speech, by one thread."""

    steps: Sequence[float]
    """A step of each of ROWS, by one thread."""

    tokens: int

    def step(self, rows: int) -> float:
        return float(np.interp(rows, ROWS, self.steps))


class SleepingFamily:
    """Implements :class:`asrloop.engine.family.Family`: every utterance is the recorded clip, whatever its samples are."""

    info = INFO
    vocabulary_size = 1000

    def __init__(self, times: Times) -> None:
        self._times = times
        self._left: dict[int, int] = {}
        """Steps of each slot until its last, which decides no token."""

    def encode(
        self, samples: NDArray[np.float32], options: Options, *, alone: bool = False, again: bool = False
    ) -> None:
        time.sleep(self._times.encode)

    def open_batch(self) -> "SleepingFamily":
        return SleepingFamily(self._times)

    def admit(self, slot: int, encoded: None, options: Options) -> Emission:
        self._left[slot] = self._times.tokens
        return NOTHING

    def step(self, slots: Sequence[int]) -> list[Emission]:
        time.sleep(self._times.step(len(slots)))
        return [self._decided(slot) for slot in slots]

    def _decided(self, slot: int) -> Emission:
        left = self._left[slot]
        if not left:
            return Emission((), (), done=True)
        self._left[slot] = left - 1
        # Tokens that never repeat, so that nothing is cut as an endless repetition.
        return Emission((left,), (), done=False, log_probs=(-0.1,))

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        return Ended()

    def confidence(self, log_probs: Sequence[float]) -> float:
        return 1.0

    def word_confidence(self, log_prob: float) -> float:
        return 1.0

    def can_write(self, term: str) -> bool:
        return True

    def piece(self, token: int) -> str:
        return f" {token}"

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))

    def words(self, tokens: Sequence[int]) -> list[Word]:
        return [Word(index, index + 1, f" {token}") for index, token in enumerate(tokens)]


def write(times: Times, directory: Path) -> None:
    """Make ``directory`` the prepared model of a family that sleeps for ``times``; a speech detector is put there by others."""
    description = {"family": INFO.family, "format": FORMAT, "times": asdict(times)}
    (directory / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def _opened(directory: Path, **_: Any) -> SleepingFamily:
    return SleepingFamily(Times(**json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))["times"]))


ENTRY = FamilyEntry(
    name=INFO.family,
    info=INFO,
    open=_opened,
    build_module="",
    precisions={},
    usual_precision=lambda: "",
    source="nothing: `asrloop-bench batches` writes it",
)
