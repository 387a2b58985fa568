"""Long recordings through the server: words against clip by clip, what the segments cover, speed, fairness, memory."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from asrloop_client import AsrClient, Segment

from asrloop.audio import SAMPLE_RATE, Samples, long_audio
from asrloop.config import Settings
from asrloop_bench import in_process
from asrloop_bench.figures import aims
from asrloop_bench.figures.accuracy import word_errors
from asrloop_bench.figures.aims import Row, at_least, at_most
from asrloop_bench.figures.figure import Manifest, Run, speech
from asrloop_bench.method import clips, machine_load, spread
from asrloop_bench.method.clips import Reference
from asrloop_bench.method.interleave import timed
from asrloop_bench.method.target import Target

PAUSES = (0.3, 0.6, 1.2, 2.5)
"""Seconds between the clips of the joined recording, in turns."""

NO_PAUSE = (0.05,)
LONG_PAUSE = 1.0
NOISE = 1e-3
HOUR = 3600
FILES_AT_ONCE = 4
TIMEOUT = 1200.0


def recordings(
    run: Run, manifest: Manifest, rounds: Annotated[int, typer.Option(help="Rounds of what is timed.", min=1)] = 5
) -> str:
    """Transcribe long recordings, joined of the manifest's clips: words, segments, speed, fairness, memory."""
    with run.server() as server, AsrClient(server.grpc, timeout=TIMEOUT) as client:
        figures = RecordingFigures(run.settings, server, client, clips.references(manifest), rounds)
        rows = []
        for measure in (figures.words, figures.speed, figures.fairness, figures.memory):
            run.step(measure.__name__)
            rows += measure()
    return aims.table(rows)


class Joined(NamedTuple):
    samples: Samples
    """f32 [N], 16 kHz."""

    speech: Sequence[tuple[float, float]]
    """Begin and end of each clip, or of the speech in it, in seconds."""

    @property
    def seconds(self) -> float:
        return self.samples.size / SAMPLE_RATE


def joined(parts: Sequence[Samples], pauses: Sequence[float]) -> Joined:
    """Join the clips, with faint noise between them for ``pauses`` seconds in turns."""
    rng = np.random.default_rng(0)
    pieces: list[Samples] = []
    speech, at = [], 0
    for part, pause in zip(parts, cycle(pauses), strict=False):
        speech.append((at / SAMPLE_RATE, (at + part.size) / SAMPLE_RATE))
        pieces += [part, rng.normal(0, NOISE, int(pause * SAMPLE_RATE)).astype(np.float32)]
        at += pieces[-2].size + pieces[-1].size
    return Joined(np.concatenate(pieces), speech)


def covered(recording: Joined, segments: Sequence[Segment]) -> tuple[float, float]:
    """Return the shares of speech and of long pauses that lie in segments."""
    inside, speech, pauses = (np.zeros(round(100 * recording.seconds) + 1, bool) for _ in range(3))
    for segment in segments:
        inside[round(100 * segment.start) : round(100 * segment.end)] = True
    for begin, end in recording.speech:
        speech[round(100 * begin) : round(100 * end)] = True
    for (_, end), (begin, _) in pairwise(recording.speech):
        if begin - end >= LONG_PAUSE:
            pauses[round(100 * end) : round(100 * begin)] = True
    return float(inside[speech].mean()), float(inside[pauses].mean())


class RecordingFigures:
    """Measures on clips with their words, through ``client`` at ``server``; ``rounds`` for what is timed."""

    def __init__(
        self, settings: Settings, server: Target, client: AsrClient, references: Sequence[Reference], rounds: int
    ) -> None:
        self._settings, self._server, self._client, self._rounds = settings, server, client, rounds
        self._texts = [one.text for one in references]
        self._clips = [one.samples for one in references]
        self._usual = joined(self._clips, PAUSES)

    def words(self) -> list[Row]:
        """Compare the word error rate of whole recordings with the same clips one by one; count what the segments cover."""
        apart = list(self._client.transcribe_many(self._clips, concurrency=16))
        usual, tight = (
            self._client.transcribe(clips.as_file(recording.samples))
            for recording in (self._usual, joined(self._clips, NO_PAUSE))
        )
        base = word_errors(self._texts, [one.text for one in apart]).rate
        rows = []
        for name, heard, limit in (("usual pauses", usual, 0.5), ("50 ms between clips", tight, 2.5)):
            rate = word_errors([" ".join(self._texts)], [heard.text]).rate
            what = f"word error rate, {name}, against clip by clip"
            rows.append(at_most(what, limit, 100 * (rate - base), "{:+.2f} points", f"{rate:.2%} against {base:.2%}"))
        speech, pauses = covered(self._usual, usual.segments)
        return [
            *rows,
            at_least("speech covered by segments", 0.95, speech, "{:.1%}", f"{len(usual.segments)} segments"),
            at_most(f"pauses over {LONG_PAUSE:g} s covered", 0.35, pauses, "{:.1%}"),
        ]

    def speed(self) -> list[Row]:
        """Measure seconds of audio a second, one file and several at once, interleaved; and the detector's share."""
        content = clips.as_file(self._usual.samples)
        rates: dict[int, list[float]] = {1: [], FILES_AT_ONCE: []}
        busy: list[float] = []
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            self._client.transcribe(content)
            for _ in range(self._rounds):
                for count, found in rates.items():
                    before, started = machine_load.processor_seconds(self._server), time.perf_counter()
                    list(pool.map(self._client.transcribe, [content] * count))
                    found.append(count * self._usual.seconds / (time.perf_counter() - started))
                    if count == 1:
                        busy.append(machine_load.processor_seconds(self._server) - before)
        has_vnni = "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
        rows = []
        for (count, found), aim in zip(rates.items(), (100, 120) if has_vnni else (60, 70), strict=True):
            detail = f"±{spread.half_range(found):.0%}, {len(found)} rounds of {self._usual.seconds:.0f} s"
            what = f"seconds of audio a second, {count} at once"
            rows.append(at_least(what, aim, spread.median(found), "{:.0f}", detail))
        listening = spread.median([self._listening_seconds() for _ in range(self._rounds)])
        usual = spread.median(busy)
        detail = f"{listening:.2f} of {usual:.2f} s for {self._usual.seconds:.0f} s of audio"
        return [*rows, at_most("the detector's share of the processor time", 0.3, listening / usual, "{:.0%}", detail)]

    def _listening_seconds(self) -> float:
        """Return the processor time for cutting the recording alone."""
        cutter = in_process.cutter(self._settings)
        started = time.process_time()
        for block in long_audio(self._usual.samples, SAMPLE_RATE).blocks:
            cutter.push(block)
        cutter.finish()
        return time.process_time() - started

    def fairness(self) -> list[Row]:
        """Compare p95 of one caller's requests of 1 s while long files run with p95 in quiet, interleaved."""
        ask = timed(partial(self._client.transcribe, speech(1.0)[1.0]))
        content = clips.as_file(np.tile(self._usual.samples, 2))
        quiet: list[float] = []
        rows = []
        for count in (1, FILES_AT_ONCE):
            beside: list[float] = []
            for _ in range(self._rounds):
                quiet += [ask().latencies[0] for _ in range(40)]
                with ThreadPoolExecutor(count) as pool:
                    files = [pool.submit(self._client.transcribe, content) for _ in range(count)]
                    time.sleep(0.5)
                    while not any(one.done() for one in files):
                        beside += ask().latencies
            usual, slowed = (spread.percentile(found, 95) for found in (quiet, beside))
            what = f"p95 of a 1 s request beside {count} long files, against quiet"
            detail = f"{1000 * usual:.0f} -> {1000 * slowed:.0f} ms, {len(quiet)} and {len(beside)} requests"
            rows.append(at_most(what, 5, slowed / usual, "{:.1f}x", detail))
        return rows

    def memory(self) -> list[Row]:
        """Measure the greatest resident memory of decoder_loop's process so far, after an hour and after four."""
        rows = []
        for hours in (1, 4):
            started = time.perf_counter()
            self._client.transcribe(clips.as_file(np.resize(self._usual.samples, hours * HOUR * SAMPLE_RATE)))
            detail = f"greatest so far; {time.perf_counter() - started:.0f} s"
            what, peak = (
                f"memory of the decoder_loop process, {hours} h FLAC",
                machine_load.of_decoder(self._server).peak,
            )
            rows.append(at_most(what, 700, peak, "{:.0f} MB", detail))
        return rows
