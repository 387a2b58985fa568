"""What a draft saves where audio is decoded again and again as it grows, and that it changes nothing else."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.engine.family import Family
from asrloop_bench.method import spread

INTERVAL_SECONDS = 0.4
"""How much more there is to hear each time, as in live audio."""

LENGTHS = ((10, 19), (30, 39), (60, 10**6))
"""Tokens of the drafts of which the time to check them is told."""


class Decoding(NamedTuple):
    """One utterance with or without a draft."""

    tokens: list[int]
    log_probs: list[float]
    accepted: int
    """Tokens of the draft that the model decided, too."""

    steps: int
    admit_seconds: float
    """The check of the draft is in it."""

    seconds: float
    """With ``admit_seconds``."""


class Partial(NamedTuple):
    """Some beginning of a clip, decoded both ways."""

    encode_seconds: float
    draft: list[int]
    plain: Decoding
    drafted: Decoding


def measured(family: Family[Any], clips: Sequence[Samples]) -> list[Partial]:
    """Every beginning of each clip, f32 [N], 16 kHz. The draft is what came of the beginning before."""
    found: list[Partial] = []
    interval = round(INTERVAL_SECONDS * SAMPLE_RATE)
    for clip in clips:
        draft: list[int] = []
        for end in range(interval, len(clip) + 1, interval):
            started = time.perf_counter()
            encoded = family.encode(clip[:end])
            seconds = time.perf_counter() - started
            arms: list[list[int]] = [[], draft]
            first = len(found) % 2  # the second run finds what the first left in the caches
            decodings = {number: _decode(family, encoded, arms[number]) for number in (first, 1 - first)}
            found.append(Partial(seconds, draft, decodings[0], decodings[1]))
            draft = decodings[0].tokens
    return found


def _decode(family: Family[Any], encoded: object, draft: Sequence[int]) -> Decoding:
    started = time.perf_counter()
    emissions = [family.admit(0, encoded, draft)]
    admitted = time.perf_counter() - started
    while not emissions[-1].done:
        emissions += family.step([0])
    seconds = time.perf_counter() - started
    tokens = [token for one in emissions for token in one.tokens]
    same = np.cumprod([ours == guess for ours, guess in zip(emissions[0].tokens, draft, strict=False)])
    log_probs = [value for one in emissions for value in one.log_probs]
    return Decoding(tokens, log_probs, int(same.sum()), len(emissions) - 1, admitted, seconds)


def markdown(found: Sequence[Partial], clips: int) -> str:
    """The table of docs/engine.md."""
    texts = sum(one.plain.tokens != one.drafted.tokens for one in found)
    pairs = [
        pair for one in found for pair in zip(one.plain.log_probs, one.drafted.log_probs, strict=False)
    ]  # with texts that differ the line above is wrong already
    odd = sum(plain != drafted for plain, drafted in pairs)
    offered, accepted = sum(len(one.draft) for one in found), sum(one.drafted.accepted for one in found)
    plain, drafted = (sum(getattr(one, arm).seconds for one in found) for arm in ("plain", "drafted"))
    encoding = sum(one.encode_seconds for one in found)
    ratios = [one.drafted.seconds / one.plain.seconds for one in found]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    steps = [sum(getattr(one, arm).steps for one in found) for arm in ("plain", "drafted")]
    rows = [
        (
            f"texts that differ, and probabilities, to the bit: {clips} clips, each time {INTERVAL_SECONDS:g} s more",
            f"{texts} of {len(found):,}, {odd} of {len(pairs):,}",
        ),
        ("tokens of drafts accepted; steps left", f"{accepted / offered:.0%}; {steps[1]:,} of {steps[0]:,}"),
        (
            "time to decode, with a draft against without",
            f"{drafted / plain:.2f}x on the whole, median {middle:.2f}x (half of them {low:.2f}-{high:.2f})",
        ),
        (
            "the same with the encoder's part, which a draft does not change",
            f"{(drafted + encoding) / (plain + encoding):.2f}x",
        ),
        *(
            (f"holding up the step thread, drafts of {_name(least, most)} tokens", _held_up(found, least, most))
            for least, most in LENGTHS
        ),
    ]
    return "\n".join(
        ["| one decoder thread, one encoder thread | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)]
    )


def _name(least: int, most: int) -> str:
    return f"{least} to {most}" if most < LENGTHS[-1][1] else f"{least} and more"


def _held_up(found: Sequence[Partial], least: int, most: int) -> str:
    times = [one.drafted.admit_seconds for one in found if least <= len(one.draft) <= most]
    return f"{1000 * spread.median(times):.1f} ms ({len(times)} drafts)" if times else "no such draft"
