"""Live audio beside files: the same streams alone, and while callers send clips and long recordings are transcribed."""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from asrloop_client import AsrClient

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import open_detector
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.accuracy import word_errors
from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.figures.live.recordings import Recording, recording
from asrloop_bench.figures.live.rounds import MOST_LAG, Round, played_round, times
from asrloop_bench.figures.long_recordings import HOUR, PAUSES, joined
from asrloop_bench.load import callers as callers_program
from asrloop_bench.load.generators import Generators, Turn, write_clips
from asrloop_bench.method import clips, markdown, spread
from asrloop_bench.method.clips import Clip

WAIT_SECONDS = 3000.0
AHEAD_SECONDS = 3.0
"""The files come so much earlier than the streams."""


class Long:
    """One long recording that is transcribed."""

    def __init__(self, client: AsrClient, content: bytes, pool: ThreadPoolExecutor) -> None:
        self.done = 0.0
        """Seconds of it that are transcribed."""
        self._answer: Future[str] = pool.submit(self._transcribe, client, content)

    def _transcribe(self, client: AsrClient, content: bytes) -> str:
        return client.transcribe(content, timeout=WAIT_SECONDS, on_progress=self._note).text

    def _note(self, progress: object) -> None:
        self.done = getattr(progress, "done", 0.0)

    def text(self) -> str:
        """Wait for its text."""
        return self._answer.result(WAIT_SECONDS)


class Files:
    """Clips and long recordings that are sent for a time."""

    def __init__(self, turn: Turn, rates: Sequence[float], texts: Sequence[str]) -> None:
        self.turn = turn
        self.rates = rates
        """Seconds of each long recording that were transcribed in a second."""
        self.texts = texts

    def changed(self, other: "Files") -> tuple[int, int]:
        """Count the texts of clips, and of long recordings, that differ from those of ``other``."""
        both = self.turn.texts.keys() & other.turn.texts.keys()
        return (
            sum(len(self.turn.texts[name] | other.turn.texts[name]) > 1 for name in both),
            sum(mine != its for mine, its in zip(self.texts, other.texts, strict=True)),
        )


class Sender:
    """Sends the files of one round after another."""

    def __init__(self, address: str, client: AsrClient, generators: Generators, order: Sequence[str]) -> None:
        self._address, self._client, self._generators, self._order = address, client, generators, order

    @contextmanager
    def sending(self, callers: int, contents: Sequence[bytes], seconds: float) -> Iterator[list[Files]]:
        """Send files for ``seconds``; the list that is given has one entry when the block is left, and all is answered."""
        found: list[Files] = []
        with ThreadPoolExecutor(len(contents) + 1) as pool:
            longs = [Long(self._client, content, pool) for content in contents]
            turn = pool.submit(self._generators.turn, ["triton", self._address], callers, self._order, seconds)
            began = time.monotonic()
            yield found
            answered = turn.result(WAIT_SECONDS)
            rates = [one.done / (time.monotonic() - began) for one in longs]
            found.append(Files(answered, rates, [one.text() for one in longs]))


def live_beside_files(
    run: Run,
    manifest: Manifest,
    streams: Annotated[int, typer.Option(help="Streams at a time.", min=1)] = 12,
    callers: Annotated[int, typer.Option(help="Callers that send the manifest's clips in closed loops.", min=1)] = 48,
    long: Annotated[int, typer.Option(help="Recordings of an hour at a time.", min=0)] = 2,
    seconds: Annotated[float, typer.Option(help="Least seconds of speech a stream.", min=5)] = 60.0,
) -> str:
    """Play live audio while files are transcribed: lag, finals, what the files lose, and whether a text changes."""
    references = clips.references(manifest)
    detector = open_detector(PREPARED)
    recordings = [recording(references, detector, number, streams, seconds) for number in range(streams)]
    sent = [Clip(f"clip {number}", one.samples) for number, one in enumerate(references)]
    usual = joined([one.samples for one in sent], PAUSES).samples
    contents = [clips.as_file(_hour(usual, number)) for number in range(long)]
    lasts = AHEAD_SECONDS + max(one.joined.seconds for one in recordings)
    with tempfile.TemporaryDirectory() as directory, run.server() as server, AsrClient(server.grpc) as client:
        path = write_clips(Path(directory, "clips.npz"), sent)
        with Generators([sys.executable, callers_program.__file__, str(path)]) as generators:
            sender = Sender(server.grpc, client, generators, [one.name for one in sent])
            run.step(f"{streams} streams alone")
            alone = played_round(server.grpc, recordings)
            run.step(f"{callers} callers and {long} recordings of an hour")
            with sender.sending(callers, contents, lasts) as quiet:
                pass
            run.step("both")
            with sender.sending(callers, contents, lasts) as beside:
                time.sleep(AHEAD_SECONDS)
                both = played_round(server.grpc, recordings)
    return report(recordings, alone, both, quiet[0], beside[0])


def _hour(samples: Samples, number: int) -> Samples:
    """Return an hour of the same speech, each ``number`` from another place on."""
    return np.resize(np.roll(samples, -number * 60 * SAMPLE_RATE), HOUR * SAMPLE_RATE)


def report(recordings: Sequence[Recording], alone: Round, both: Round, quiet: Files, beside: Files) -> str:
    """Return a table: the streams alone, the files alone, and both."""
    heads = ["", "streams alone", "files alone", "both"]
    changed_clips, changed_longs = beside.changed(quiet)
    played = (alone, both)
    sent = (quiet, beside)

    def streams(name: str, values: Sequence[str]) -> list[str]:
        return [name, values[0], "", values[1]]

    def files(name: str, values: Sequence[str]) -> list[str]:
        return [name, "", *values]

    references = [one.text for one in recordings]
    rows = [
        streams("greatest lag of a stream", [f"{one.lag:.1f} s" for one in played]),
        streams(f"streams over {MOST_LAG:g} s of lag", [str(sum(each.lag > MOST_LAG for each in one.judged)) for one in played]),
        streams(
            "first text of a segment after its first second, p50 / p95",
            [times([each for stream in one.judged for each in stream.first_texts]) for one in played],
        ),
        streams(
            "last speech sent to FINAL, p50 / p95",
            [times([each for stream in one.judged for each in stream.finals]) for one in played],
        ),
        streams(
            "word errors of the finals",
            [f"{word_errors(references, [each.text for each in one.judged]).rate:.1%}" for one in played],
        ),
        streams(
            "stable text taken back, failed",
            [
                f"{sum(each.taken_back for each in one.judged)}, {sum(each.error is not None for each in one.played)}"
                for one in played
            ],
        ),
        files("clips a second", [f"{1 / one.turn.seconds_per_request():.1f}" for one in sent]),
        files("time of a clip, p50 / p95", [times(one.turn.latencies) for one in sent]),
        files(
            "seconds of each long recording a second",
            [", ".join(f"{rate:.1f}" for rate in one.rates) or "none" for one in sent],
        ),
        files("texts that differ from those of files alone", ["", f"{changed_clips} of {len(beside.turn.texts)} clips, "
              f"{changed_longs} of {len(beside.texts)} recordings"]),
    ]  # fmt: skip
    late = 1000 * spread.percentile([each for stream in both.played for each in stream.late], 99)
    others = f"{alone.others:.2f}"
    return (
        f"{markdown.table(heads, rows, numbers_from=1)}\n\n"
        f"Players and callers ran on the same cores (chunks were sent up to {late:.0f} ms late, p99, beside files); "
        f"cores that other programs kept busy while the streams were alone: {others}."
    )
