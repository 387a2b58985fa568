"""Decodes encoded utterances with a family alone: no engine, no threads, no clock. For building, measuring and testing."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asrloop.engine.family import Emission, Encoded, Family
from asrloop.engine.options import Draft, Options


class DecodedTokens(NamedTuple):
    """Token ids, and the start of each in seconds where the family's steps give times."""

    tokens: list[int]
    times: list[float]


def decode(
    family: Family[Encoded],
    utterances: Iterable[Encoded],
    *,
    drafts: Iterable[Sequence[int]] = (),
    slots: int = 1,
    arrivals_per_step: int | None = None,
) -> list[DecodedTokens]:
    """Decode ``utterances``, results of the family's ``encode``, each in the lowest free slot of ``slots``.

    Utterances join in order as slots become free, at most ``arrivals_per_step`` before each step (None: any number), and are
    taken from the iterable only then. ``drafts`` belong to the first utterances, in order.
    """
    waiting, guesses = iter(utterances), iter(drafts)
    decoded: list[DecodedTokens] = []
    running: dict[int, DecodedTokens] = {}

    def take(slot: int, emission: Emission) -> None:
        tokens = running[slot]
        tokens.tokens.extend(emission.tokens)
        tokens.times.extend(emission.times)
        if emission.done:
            family.finish(slot, tokens.tokens)
            del running[slot]

    while True:
        free = sorted(set(range(slots)) - running.keys())
        arrivals = list(zip(free[:arrivals_per_step], waiting, strict=False))
        for slot, encoded in arrivals:
            running[slot] = DecodedTokens([], [])
            decoded.append(running[slot])
            take(slot, family.admit(slot, encoded, Options(draft=Draft(next(guesses, ())))))
        if not arrivals and not running:
            return decoded
        rows = sorted(running)
        for slot, emission in zip(rows, family.step(rows) if rows else (), strict=True):
            take(slot, emission)
