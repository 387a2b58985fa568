"""The command that measures live audio: more and more streams at a time, each with clips of its own."""

from collections.abc import Sequence
from typing import Annotated

import typer
from asrloop_client import AsrClient

from asrloop.speech.detector import open_detector
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.accuracy import word_errors
from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.figures.live.recordings import recording
from asrloop_bench.figures.live.rounds import MOST_LAG, Round, counts_in, played_round, times
from asrloop_bench.method import clips, markdown, spread


def live(
    run: Run,
    manifest: Manifest,
    streams: Annotated[str, typer.Option(help="Numbers of streams at a time, with commas.")] = "1,4,8,12",
    seconds: Annotated[float, typer.Option(help="Least seconds of speech a stream.", min=5)] = 60.0,
) -> str:
    """Play live audio at the speed of speech: words while they are spoken, finals, lag, accuracy."""
    counts = counts_in(streams)
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
