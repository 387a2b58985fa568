"""The time that drafts save where audio is decoded again and again as it grows; they must change nothing else."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.engine.family import Family
from asrloop_bench import in_process
from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.method import manifest as manifests
from asrloop_bench.method import markdown, spread

INTERVAL_SECONDS = 0.4
"""The audio grows by this each time, as in live audio."""

LENGTHS = {"10 to 19": range(10, 20), "30 to 39": range(30, 40), "60 and more": range(60, 10**6)}
"""Tokens of the drafts whose checking is timed."""


def drafts(run: Run, manifest: Manifest) -> str:
    """The time that drafts save where audio is decoded again and again as it grows, and that they change nothing."""
    family = in_process.open_family(run.settings, threads=1)
    longest = in_process.longest(run.settings)
    heard = [one.samples[:longest] for one in manifests.read(manifest)]
    return table(measured(family, heard), len(heard))


class Decoding(NamedTuple):
    """One utterance with or without a draft."""

    tokens: list[int]
    log_probs: list[float]
    accepted: int
    """Tokens of the draft that the model decided, too."""

    steps: int
    admit_seconds: float
    """Includes the check of the draft."""

    seconds: float
    """Includes ``admit_seconds``."""


class Partial(NamedTuple):
    """The beginning of a clip, decoded both ways."""

    encode_seconds: float
    draft: list[int]
    plain: Decoding
    drafted: Decoding


def measured(family: Family[Any], clips: Sequence[Samples]) -> list[Partial]:
    """Decode every beginning of each clip, f32 [N], 16 kHz. The draft is the text of the beginning before."""
    found: list[Partial] = []
    interval = round(INTERVAL_SECONDS * SAMPLE_RATE)
    for clip in clips:
        draft: list[int] = []
        for end in range(interval, len(clip) + 1, interval):
            started = time.perf_counter()
            encoded = in_process.encode(family, clip[:end])
            seconds = time.perf_counter() - started
            arms: list[list[int]] = [[], draft]
            first = len(found) % 2  # the second run finds what the first left in the caches
            decodings = {number: _decode(family, encoded, arms[number]) for number in (first, 1 - first)}
            found.append(Partial(seconds, draft, decodings[0], decodings[1]))
            draft = decodings[0].tokens
    return found


def _decode(family: Family[Any], encoded: object, draft: Sequence[int]) -> Decoding:
    started = time.perf_counter()
    emissions = [in_process.admit(family, 0, encoded, draft)]
    admitted = time.perf_counter() - started
    while not emissions[-1].done:
        emissions += family.step([0])
    seconds = time.perf_counter() - started
    tokens = [token for one in emissions for token in one.tokens]
    same = np.cumprod([ours == guess for ours, guess in zip(emissions[0].tokens, draft, strict=False)])
    log_probs = [value for one in emissions for value in one.log_probs]
    return Decoding(tokens, log_probs, int(same.sum()), len(emissions) - 1, admitted, seconds)


def table(found: Sequence[Partial], clips: int) -> str:
    """Return the table of docs/engine.md."""
    texts = sum(one.plain.tokens != one.drafted.tokens for one in found)
    # Texts of different lengths are counted as different above.
    pairs = [pair for one in found for pair in zip(one.plain.log_probs, one.drafted.log_probs, strict=False)]
    odd = sum(plain != drafted for plain, drafted in pairs)
    offered, accepted = sum(len(one.draft) for one in found), sum(one.drafted.accepted for one in found)
    plain, drafted = sum(one.plain.seconds for one in found), sum(one.drafted.seconds for one in found)
    steps, left = sum(one.plain.steps for one in found), sum(one.drafted.steps for one in found)
    encoding = sum(one.encode_seconds for one in found)
    low, middle, high = np.percentile([one.drafted.seconds / one.plain.seconds for one in found], [25, 50, 75])
    each = f"{clips} clips, each time {INTERVAL_SECONDS:g} s more"
    times = f"{drafted / plain:.2f}x on the whole, median {middle:.2f}x (half of them {low:.2f}-{high:.2f})"
    with_encoder = f"{(drafted + encoding) / (plain + encoding):.2f}x"
    rows = {
        f"texts that differ, and probabilities, to the bit: {each}": f"{texts} of {len(found):,}, {odd} of {len(pairs):,}",
        "tokens of drafts accepted; steps left": f"{accepted / offered:.0%}; {left:,} of {steps:,}",
        "time to decode, with a draft against without": times,
        "the same with the encoder's part, which a draft does not change": with_encoder,
        **{f"holding up the step thread, drafts of {name} tokens": _held_up(found, tokens) for name, tokens in LENGTHS.items()},
    }  # fmt: skip
    return markdown.table(["one decoder thread, one encoder thread", ""], list(rows.items()))


def _held_up(found: Sequence[Partial], tokens: range) -> str:
    times = [one.drafted.admit_seconds for one in found if len(one.draft) in tokens]
    return f"{1000 * spread.median(times):.1f} ms ({len(times)} drafts)" if times else "no such draft"
