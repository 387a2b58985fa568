"""The command that measures turns: sentences with pauses inside, played under each policy that ends segments."""

import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from asrloop_client import AsrClient

from asrloop.speech.detector import open_detector
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.accuracy import word_errors
from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.figures.live.recordings import Recording
from asrloop_bench.figures.live.rounds import MOST_LAG, Round, counts_in, played_round, times
from asrloop_bench.figures.live.sentences import Cuts, cuts_in, recording, sentence
from asrloop_bench.method import clips, markdown, spread

ASK_AFTER = 0.1
"""Seconds after the last speech of a clip at which its end is asked for, where nothing else ends segments."""


class Arm(NamedTuple):
    name: str
    options: Mapping[str, Any]
    """Those of the client's streams."""

    asks: bool = False
    """True where the player asks for the end of each segment."""


def turns(
    run: Run,
    manifest: Manifest,
    turns: Annotated[
        str,
        typer.Option(
            help="What ends segments, with commas: silence, or silence:MS for a pause of so many milliseconds; semantic, or "
            "semantic:P for another turn_threshold; none, where the player sends end_segment."
        ),
    ] = "silence,semantic,none",
    streams: Annotated[str, typer.Option(help="Numbers of streams at a time, with commas.")] = "1,4,10",
    seconds: Annotated[float, typer.Option(help="Least seconds of speech a stream and round.", min=5)] = 60.0,
    rounds: Annotated[
        int, typer.Option(help="Rounds, each with other sentences; what ends them takes turns.", min=1)
    ] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the order of sentences and of the pauses.", min=0)] = 1,
) -> str:
    """Play sentences with pauses inside: how many are cut apart, how soon they are final, what that costs in words."""
    arms, counts = arms_in(turns), counts_in(streams)
    references = clips.references(manifest)
    detector, rng = open_detector(PREPARED), np.random.default_rng(seed)
    found: dict[tuple[int, str], list[Round]] = {}
    with run.server() as server, AsrClient(server.grpc, timeout=300) as client:
        run.step("words of the clips")
        samples = [one.samples for one in references]
        heard = client.transcribe_many([clips.as_file(each) for each in samples], word_times=True)
        said = [
            sentence(each, one.text, transcript.words, detector)
            for each, one, transcript in zip(samples, references, heard, strict=True)
        ]
        drawn = cycle([said[at] for at in rng.permutation(len(said))])
        for count in counts:
            for number in range(rounds):
                recordings = [recording(drawn, seconds, rng, detector) for _ in range(count)]
                for arm in arms[:: -1 if number % 2 else 1]:
                    run.step(f"{count} streams, {arm.name}, round {number + 1}")
                    ends = [[end + ASK_AFTER for _, end in one.joined.speech] if arm.asks else [] for one in recordings]
                    played = played_round(server.grpc, recordings, ends, **arm.options)
                    found.setdefault((count, arm.name), []).append(played)
    return report([(count, arm.name, found[count, arm.name]) for count in counts for arm in arms])


def arms_in(given: str) -> list[Arm]:
    """Return what the option names. Raises ValueError."""
    arms = []
    for name in given.split(","):
        kind, _, value = name.partition(":")
        if not re.fullmatch(r"silence(:\d+)?|semantic(:(0?\.\d+|[01]))?|none", name):
            raise ValueError(
                f"--turns {given}: give some of silence, silence:MS, semantic, semantic:P, none, with commas"
            )
        options: dict[str, Any] = {} if kind == "silence" else {"turn_detection": kind}
        if value:
            options |= {"silence_ms": int(value)} if kind == "silence" else {"turn_threshold": float(value)}
        arms.append(Arm(name, options, asks=kind == "none"))
    return arms


def report(found: Sequence[tuple[int, str, Sequence[Round]]]) -> str:
    """Return a table, a row for each number of streams and what ended their segments, over all its rounds."""
    heads = [
        "streams", "what ends segments", "sentences cut apart at an inner pause", "inner pauses that cut", "other cuts in a clip",
        "last speech sent to FINAL, p50 / p95", "end_segment to FINAL, p50 / p95", "word errors of the finals", "greatest lag",
        f"streams over {MOST_LAG:g} s of lag", "stable text taken back", "failed", "chunks sent late, p99",
    ]  # fmt: skip
    rows = []
    for count, name, rounds in found:
        recordings: list[Recording] = [one for each in rounds for one in each.recordings]
        judged = [one for each in rounds for one in each.judged]
        played = [one for each in rounds for one in each.played]
        cuts = Cuts(*np.sum([cuts_in(*pair) for pair in zip(played, recordings, strict=True)], axis=0).tolist())
        errors = word_errors([one.text for one in recordings], [one.text for one in judged])
        clips_played = sum(len(one.joined.speech) for one in recordings)
        asked = sum(len(one.asked) for one in played)
        rows.append([
            count, name, f"{cuts.sentences} of {cuts.of_sentences}", f"{cuts.pauses} of {cuts.of_pauses}", cuts.elsewhere,
            f"{times([each for one in judged for each in one.finals])} of {clips_played}",
            f"{times([each for one in judged for each in one.asked])} of {asked}" if asked else "",
            f"{errors.rate:.1%} of {errors.words:,}", f"{max(each.lag for each in rounds):.1f} s",
            sum(one.lag > MOST_LAG for one in judged), sum(one.taken_back for one in judged),
            sum(one.error is not None for one in played),
            f"{1000 * spread.percentile([late for one in played for late in one.late], 99):.0f} ms",
        ])  # fmt: skip
    others = [each.others for _, _, rounds in found for each in rounds]
    return (
        f"{markdown.table(heads, rows, numbers_from=2)}\n\n"
        f"In brackets: the sentences that were final before the next one began, of all. The players ran on the same cores; "
        f"cores that other programs kept busy meanwhile: {min(others):.2f} to {max(others):.2f}."
    )
