"""Decodes encoded utterances with a family alone: no engine, no threads, no clock. For building, measuring and testing."""

from collections.abc import Iterable
from typing import NamedTuple

from asrloop.engine.family import Encoded, Family


class Decoded(NamedTuple):
    """Token ids, and the start of each in seconds where the family gives times."""

    tokens: list[int]
    times: list[float]


def decode(
    family: Family[Encoded], utterances: Iterable[Encoded], *, slots: int = 1, arrivals_per_step: int | None = None
) -> list[Decoded]:
    """Decode ``utterances``, results of the family's ``encode``, in the lowest free ones of ``slots`` slots.

    Utterances join in their order as slots fall free, at most ``arrivals_per_step`` before each step (None: any number),
    and are taken from the iterable only then.
    """
    waiting = iter(utterances)
    decoded: list[Decoded] = []
    running: dict[int, Decoded] = {}
    while True:
        free = sorted(set(range(slots)) - running.keys())
        for slot, encoded in zip(free[:arrivals_per_step], waiting, strict=False):
            family.admit(slot, encoded)
            running[slot] = Decoded([], [])
            decoded.append(running[slot])
        if not running:
            return decoded
        rows = sorted(running)
        for slot, emission in zip(rows, family.step(rows), strict=True):
            running[slot].tokens.extend(emission.tokens)
            running[slot].times.extend(emission.times)
            if emission.done:
                del running[slot]
