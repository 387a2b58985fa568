"""The command that measures live audio: more and more streams at a time, each with clips of its own."""

import re
from collections.abc import Sequence
from itertools import cycle
from typing import Annotated, NamedTuple

import numpy as np
import typer
from asrloop_client import AsrClient

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME, SpeechDetector, open_detector
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.accuracy import word_errors
from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.figures.live.playing import Judged, Played, judged, play
from asrloop_bench.figures.long_recordings import PAUSES, Joined, joined
from asrloop_bench.method import clips, machine_load, markdown, spread
from asrloop_bench.method.clips import Reference
from asrloop_bench.terminal import print_notes

MOST_LAG = 2.0
SPEECH = 0.5
"""Least probability of a window with speech, by the detector on the clip alone."""


class Recording(NamedTuple):
    joined: Joined
    text: str


class Round(NamedTuple):
    recordings: Sequence[Recording]
    played: Sequence[Played]
    judged: Sequence[Judged]
    others: float
    """Cores that others kept busy meanwhile."""

    @property
    def lag(self) -> float:
        return max(one.lag for one in self.judged)


def live(
    run: Run,
    manifest: Manifest,
    streams: Annotated[str, typer.Option(help="Numbers of streams at a time, with commas.")] = "1,4,8,12",
    seconds: Annotated[float, typer.Option(help="Least seconds of speech a stream.", min=5)] = 60.0,
) -> str:
    """Play live audio at the speed of speech: words while they are spoken, finals, lag, accuracy."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", streams):
        raise ValueError(f"--streams {streams}: give whole numbers of 1 or more with commas, such as 1,4,8,12")
    counts = [int(each) for each in streams.split(",")]
    references = clips.references(manifest)
    detector = open_detector(PREPARED)
    rounds = []
    with run.server() as server, AsrClient(server.grpc) as client:
        for count in counts:
            run.step(f"{count} streams of {seconds:g} s and more")
            recordings = [recording(references, detector, number, count, seconds) for number in range(count)]
            rounds.append(played_round(server.grpc, recordings))
        run.step("the same as whole files")
        files = [clips.as_file(one.joined.samples) for each in rounds for one in each.recordings]
        whole = [one.text for one in client.transcribe_many(files, timeout=300)]
    return report(rounds, whole)


def recording(
    references: Sequence[Reference], detector: SpeechDetector, number: int, count: int, seconds: float
) -> Recording:
    """Join every ``count``-th clip from ``number`` on, again and again, with pauses, until there are ``seconds`` of them."""
    texts: list[str] = []
    parts: list[Samples] = []
    for one in cycle(references[number::count] or references):
        texts.append(one.text)
        parts.append(one.samples)
        if sum(part.size for part in parts) >= seconds * SAMPLE_RATE:
            break
    whole = joined(parts, PAUSES)
    speech = []
    for part, (begin, _) in zip(parts, whole.speech, strict=True):
        heard = np.flatnonzero(detector(part)[0] >= SPEECH)
        if heard.size:
            first, last = int(heard[0]) * FRAME, min(part.size, (int(heard[-1]) + 1) * FRAME)
            speech.append((begin + first / SAMPLE_RATE, begin + last / SAMPLE_RATE))
    return Recording(Joined(whole.samples, speech), " ".join(texts))


def played_round(address: str, recordings: Sequence[Recording]) -> Round:
    before = machine_load.now()
    played = play(address, [one.joined.samples for one in recordings])
    meanwhile = machine_load.between(before, machine_load.now())
    print_notes([f"a stream failed: {one.error}" for one in played if one.error is not None])
    pairs = zip(played, recordings, strict=True)
    verdicts = [judged(one, each.joined.seconds, each.joined.speech) for one, each in pairs]
    return Round(recordings, played, verdicts, meanwhile["cores_others"] + meanwhile["cores_stolen"])


def report(rounds: Sequence[Round], whole: Sequence[str]) -> str:
    """Return a table, a row for each number of streams; ``whole`` are the texts of all recordings as files."""
    heads = [
        "streams", "first text of a segment after its first second, p50 / p95", "last speech sent to FINAL, p50 / p95",
        "greatest lag", "word errors against the whole file", "stable text taken back", "failed", "chunks sent late, p99",
    ]  # fmt: skip
    rows = []
    left = list(whole)
    for one in rounds:
        count = len(one.recordings)
        files, left = left[:count], left[count:]
        references = [each.text for each in one.recordings]
        spoken = word_errors(references, [each.text for each in one.judged])
        points = 100 * (spoken.rate - word_errors(references, files).rate)
        late = spread.percentile([each for stream in one.played for each in stream.late], 99)
        rows.append([
            count,
            times([each for stream in one.judged for each in stream.first_texts]),
            times([each for stream in one.judged for each in stream.finals]),
            f"{one.lag:.1f} s", f"{points:+.1f} points ({spoken.rate:.1%} of {spoken.words:,} words)",
            sum(each.taken_back for each in one.judged), sum(each.error is not None for each in one.played),
            f"{1000 * late:.0f} ms",
        ])  # fmt: skip
    kept_up = [
        len(each.recordings) for each in rounds if each.lag <= MOST_LAG and not any(p.error for p in each.played)
    ]
    others = ", ".join(f"{each.others:.2f}" for each in rounds)
    return (
        f"{markdown.table(heads, rows, numbers_from=0)}\n\n"
        f"The greatest number tried with no stream over {MOST_LAG:g} s of lag: {max(kept_up, default=0)}. "
        f"The players ran on the same cores; cores that other programs kept busy meanwhile: {others}."
    )


def times(values: Sequence[float]) -> str:
    """Return p50, p95 and the number of ``values``, which are seconds."""
    if not values:
        return "none"
    p50, p95 = (1000 * spread.percentile(values, percent) for percent in (50, 95))
    return f"{p50:.0f} / {p95:.0f} ms ({len(values)})"
