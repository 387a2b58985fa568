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
    """Decode ``utterances``, results of the family's ``encode``, each in the lowest free slot of ``slots``, and once more where the
    family asks for that.

    Utterances join in order as slots become free, at most ``arrivals_per_step`` before each step (None: any number), and are
    taken from the iterable only then. ``drafts`` belong to the first utterances, in order.
    """
    waiting, guesses = iter(utterances), iter(drafts)
    decoded: list[DecodedTokens] = []
    running: dict[int, DecodedTokens] = {}
    again: list[tuple[DecodedTokens, Encoded]] = []

    def take(slot: int, emission: Emission) -> None:
        tokens = running[slot]
        tokens.tokens.extend(emission.tokens)
        tokens.times.extend(emission.times)
        if emission.done:
            ended = family.finish(slot, tokens.tokens)
            del running[slot]
            if ended.again is not None:
                tokens.tokens.clear()
                tokens.times.clear()
                again.append((tokens, family.encode(ended.again, Options(), again=True)))

    while True:
        free = sorted(set(range(slots)) - running.keys())
        arrivals = list(zip(free[:arrivals_per_step], waiting, strict=False))
        for slot, encoded in arrivals:
            running[slot] = DecodedTokens([], [])
            decoded.append(running[slot])
            take(slot, family.admit(slot, encoded, Options(draft=Draft(next(guesses, ())))))
        while again and len(running) < slots:
            slot = min(set(range(slots)) - running.keys())
            running[slot], encoded = again.pop()
            take(slot, family.admit(slot, encoded, Options()))
        if not arrivals and not running and not again:
            return decoded
        rows = sorted(running)
        for slot, emission in zip(rows, family.step(rows) if rows else (), strict=True):
            take(slot, emission)
