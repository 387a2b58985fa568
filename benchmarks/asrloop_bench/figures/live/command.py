"""The command that measures live audio: more and more streams at a time, each with clips of its own."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from asrloop_client import AsrClient, AsrError

from asrloop import config
from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.cli import one_line_errors
from asrloop.speech.detector import FRAME, SpeechDetector, open_detector
from asrloop_bench.checkout import PREPARED, ROOT
from asrloop_bench.figures import accuracy
from asrloop_bench.figures.accuracy import Reference
from asrloop_bench.figures.live.judging import Judged, judged
from asrloop_bench.figures.live.playing import Played, play
from asrloop_bench.figures.long_recordings import PAUSES, flac, joined
from asrloop_bench.method import clips, machine_load, markers, provenance, spread, target
from asrloop_bench.terminal import console

MOST_LAG = 2.0
SPEECH = 0.5
"""Least probability of a window with speech, by the detector on the clip alone."""


class Recording(NamedTuple):
    """What one stream says."""

    samples: Samples
    """f32 [N], 16 kHz."""
    speech: Sequence[tuple[float, float]]
    """Where each clip speaks, in seconds."""
    text: str


class Round(NamedTuple):
    """So many streams at a time."""

    recordings: Sequence[Recording]
    played: Sequence[Played]
    judged: Sequence[Judged]
    others: float
    """Cores that others kept busy meanwhile."""

    @property
    def lag(self) -> float:
        """The greatest."""
        return max(one.lag for one in self.judged)


def live(
    manifest: Annotated[
        Path, typer.Option(help='JSON lines: {"audio": PATH, "text": WORDS}; paths are relative to the file.')
    ],
    streams: Annotated[str, typer.Option(help="Numbers of streams at a time, with commas.")] = "1,4,8,12",
    seconds: Annotated[float, typer.Option(help="Least seconds of speech a stream.", min=5)] = 60.0,
    write: Annotated[bool, typer.Option("--write", help="Also write the table of docs/live.md.")] = False,
) -> None:
    """Live audio at the speed of speech: words while they are spoken, finals, lag, accuracy."""
    with one_line_errors(AsrError):
        counts = _counts(streams)
        references = accuracy.read_manifest(manifest)
        detector = open_detector(PREPARED)
        settings = config.load()
        about = provenance.describe(settings)
        rounds = []
        with console.status("") as status, target.started(settings) as server, AsrClient(server.grpc) as client:
            for count in counts:
                status.update(f"{count} streams of {seconds:g} s and more")
                status.stop()  # it would take turns with the players
                recordings = [recording(references, detector, number, count, seconds) for number in range(count)]
                rounds.append(played_round(server.grpc, recordings))
                status.start()
            status.update("the same as whole files")
            files = [one for each in rounds for one in each.recordings]
            whole = [one.text for one in client.transcribe_many([flac(one.samples) for one in files], timeout=300)]
        text = (
            f"{report(rounds, whole)}\n\nMeasured by `asrloop-bench live --manifest {manifest.name} --streams {streams} "
            f"--seconds {seconds:g} --write` on {provenance.in_words(about)}, {time.strftime('%H:%M')}, "
            f"commit {str(about['git_commit'])[:7]}."
        )
        console.print(text, markup=False)
        if write:
            page = ROOT / "docs" / "live.md"
            markers.write(page, text)


def recording(
    references: Sequence[Reference], detector: SpeechDetector, number: int, count: int, seconds: float
) -> Recording:
    """For stream ``number`` of ``count``: every ``count``-th clip, joined with pauses, until there are ``seconds`` of them."""
    chosen: list[Reference] = []
    parts: list[Samples] = []
    for one in references[number::count]:
        if sum(part.size for part in parts) < seconds * SAMPLE_RATE:
            chosen.append(one)
            parts.append(clips.read(one.audio))
    whole = joined(parts, PAUSES)
    speech = []
    for part, (begin, _) in zip(parts, whole.speech, strict=True):
        heard = np.flatnonzero(detector(part)[0] >= SPEECH)
        if heard.size:
            first, last = int(heard[0]) * FRAME, min(part.size, (int(heard[-1]) + 1) * FRAME)
            speech.append((begin + first / SAMPLE_RATE, begin + last / SAMPLE_RATE))
    return Recording(whole.samples, speech, " ".join(one.text for one in chosen))


def played_round(address: str, recordings: Sequence[Recording]) -> Round:
    """Play them at a time and judge what came."""
    before = machine_load.now()
    played = play(address, [one.samples for one in recordings])
    meanwhile = machine_load.between(before, machine_load.now())
    for one in played:
        if one.error is not None:
            console.print(f"note: a stream failed: {one.error}", style="yellow", markup=False)
    verdicts = [
        judged(one, each.samples.size / SAMPLE_RATE, each.speech) for one, each in zip(played, recordings, strict=True)
    ]
    return Round(recordings, played, verdicts, meanwhile["cores_others"] + meanwhile["cores_stolen"])


def report(rounds: Sequence[Round], whole: Sequence[str]) -> str:
    """A table, a line for each number of streams; ``whole`` are the texts of all recordings as files."""
    lines = [
        "| streams | first text of a segment after its first second, p50 / p95 | last speech sent to FINAL, p50 / p95 | "
        "greatest lag | word errors against the whole file | stable text taken back | failed | chunks sent late, p99 |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    left = list(whole)
    for one in rounds:
        count = len(one.recordings)
        files, left = left[:count], left[count:]
        references = [each.text for each in one.recordings]
        spoken = accuracy.word_errors(references, [each.text for each in one.judged])
        points = 100 * (spoken.rate - accuracy.word_errors(references, files).rate)
        late = spread.percentile([each for stream in one.played for each in stream.late], 99)
        lines.append(
            f"| {count} | {_times([each for stream in one.judged for each in stream.first_texts])} | "
            f"{_times([each for stream in one.judged for each in stream.finals])} | {one.lag:.1f} s | "
            f"{points:+.1f} points ({spoken.rate:.1%} of {spoken.words:,} words) | {sum(each.taken_back for each in one.judged)} | "
            f"{sum(each.error is not None for each in one.played)} | {1000 * late:.0f} ms |"
        )
    kept_up = [
        len(each.recordings) for each in rounds if each.lag <= MOST_LAG and not any(p.error for p in each.played)
    ]
    others = ", ".join(f"{each.others:.2f}" for each in rounds)
    return "\n".join(lines) + (
        f"\n\nThe greatest number tried with no stream over {MOST_LAG:g} s of lag: {max(kept_up, default=0)}. "
        f"The players ran on the same cores; cores that other programs kept busy meanwhile: {others}."
    )


def _times(values: Sequence[float]) -> str:
    if not values:
        return "none"
    p50, p95 = (1000 * spread.percentile(values, percent) for percent in (50, 95))
    return f"{p50:.0f} / {p95:.0f} ms ({len(values)})"


def _counts(streams: str) -> list[int]:
    try:
        counts = [int(each) for each in streams.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ValueError(f"--streams {streams}: give whole numbers of 1 or more with commas, such as 1,4,8,12")
    return counts
