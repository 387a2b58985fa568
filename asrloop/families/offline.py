"""Decodes encoded utterances with a family alone: no engine, no threads, no clock. For building, measuring and testing."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asrloop.engine.family import Emission, Encoded, Family


class Decoded(NamedTuple):
    """Token ids, and the start of each in seconds where the family gives times."""

    tokens: list[int]
    times: list[float]

    def take(self, emission: Emission) -> None:
        """Add what was decided."""
        self.tokens.extend(emission.tokens)
        self.times.extend(emission.times)


def decode(
    family: Family[Encoded],
    utterances: Iterable[Encoded],
    *,
    drafts: Iterable[Sequence[int]] = (),
    slots: int = 1,
    arrivals_per_step: int | None = None,
) -> list[Decoded]:
    """Decode ``utterances``, results of the family's ``encode``, in the lowest free ones of ``slots`` slots.

    Utterances join in their order as slots fall free, at most ``arrivals_per_step`` before each step (None: any number),
    and are taken from the iterable only then. ``drafts`` are those of the first utterances, in order.
    """
    waiting, guesses = iter(utterances), iter(drafts)
    decoded: list[Decoded] = []
    running: dict[int, Decoded] = {}
    while True:
        free = sorted(set(range(slots)) - running.keys())
        arrivals = list(zip(free[:arrivals_per_step], waiting, strict=False))
        for slot, encoded in arrivals:
            decoded.append(Decoded([], []))
            emission = family.admit(slot, encoded, next(guesses, ()))
            decoded[-1].take(emission)
            if not emission.done:
                running[slot] = decoded[-1]
        if not arrivals and not running:
            return decoded
        rows = sorted(running)
        for slot, emission in zip(rows, family.step(rows) if rows else (), strict=True):
            running[slot].take(emission)
            if emission.done:
                del running[slot]
