"""Long recordings through the server: words against clip by clip, what the segments cover, speed, fairness, memory."""

import io
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from asrloop_client import AsrClient, Segment

from asrloop.audio import SAMPLE_RATE, Samples, long_audio
from asrloop.config import Settings
from asrloop.families import registry
from asrloop.speech.detector import open_detector
from asrloop.tritonserver.processes import model_processes
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.accuracy import Reference, word_errors
from asrloop_bench.figures.figure import Figure
from asrloop_bench.method import clips, spread
from asrloop_bench.method.target import Target

PAUSES = (0.3, 0.6, 1.2, 2.5)
"""Seconds between the clips of the joined recording, in turns."""

NO_PAUSE = (0.05,)
LONG_PAUSE = 1.0
NOISE = 1e-3
HOUR = 3600
FILES_AT_ONCE = 4
TIMEOUT = 1200.0


class Joined(NamedTuple):
    """One recording of many clips."""

    samples: Samples
    """f32 [N], 16 kHz."""

    speech: Sequence[tuple[float, float]]
    """Where each clip lies, in seconds."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples.size / SAMPLE_RATE


def joined(parts: Sequence[Samples], pauses: Sequence[float]) -> Joined:
    """The clips one after another, between them faint noise for as long as ``pauses`` say in turns."""
    rng = np.random.default_rng(0)
    pieces: list[Samples] = []
    speech, at = [], 0
    for part, pause in zip(parts, cycle(pauses), strict=False):
        speech.append((at / SAMPLE_RATE, (at + part.size) / SAMPLE_RATE))
        pieces += [part, rng.normal(0, NOISE, int(pause * SAMPLE_RATE)).astype(np.float32)]
        at += pieces[-2].size + pieces[-1].size
    return Joined(np.concatenate(pieces), speech)


def covered(recording: Joined, segments: Sequence[Segment]) -> tuple[float, float]:
    """The shares of speech and of long pauses that lie in segments."""
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
    """Measures on clips with their words, through the server at ``server``; ``rounds`` for what is timed."""

    def __init__(self, settings: Settings, server: Target, references: Sequence[Reference], rounds: int) -> None:
        self._settings = settings
        self._server = server
        self._texts = [one.text for one in references]
        self._clips = [clips.read(one.audio) for one in references]
        self._usual = joined(self._clips, PAUSES)
        self._rounds = rounds

    def words(self) -> list[Figure]:
        """Word error rate of whole recordings against the same clips one by one, and what the segments cover."""
        with self._client() as client:
            apart = list(client.transcribe_many(self._clips, concurrency=16))
            usual = client.transcribe(flac(self._usual.samples))
            tight = client.transcribe(flac(joined(self._clips, NO_PAUSE).samples))
        base = word_errors(self._texts, [one.text for one in apart]).rate
        figures = []
        for name, heard, limit in (("usual pauses", usual, 0.005), ("50 ms between clips", tight, 0.025)):
            rate = word_errors([" ".join(self._texts)], [heard.text]).rate
            figures.append(
                Figure(
                    f"word error rate, {name}, against clip by clip", f"<= +{100 * limit:g} points",
                    f"{100 * (rate - base):+.2f}", rate - base <= limit, f"{rate:.2%} against {base:.2%}",
                )
            )  # fmt: skip
        speech, pauses = covered(self._usual, usual.segments)
        figures.append(
            Figure(
                "speech covered by segments",
                ">= 95 %",
                f"{speech:.1%}",
                speech >= 0.95,
                f"{len(usual.segments)} segments",
            )
        )
        figures.append(Figure(f"pauses over {LONG_PAUSE:g} s covered", "<= 35 %", f"{pauses:.1%}", pauses <= 0.35, ""))
        return figures

    def speed(self) -> list[Figure]:
        """Seconds of audio for each second, one file and several at once, interleaved; and the detector's share."""
        content = flac(self._usual.samples)
        rates: dict[int, list[float]] = {1: [], FILES_AT_ONCE: []}
        busy: list[float] = []
        with self._client() as client, ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            client.transcribe(content)
            for _ in range(self._rounds):
                for count, found in rates.items():
                    before, started = self._processor_seconds(), time.perf_counter()
                    list(pool.map(client.transcribe, [content] * count))
                    found.append(count * self._usual.seconds / (time.perf_counter() - started))
                    if count == 1:
                        busy.append(self._processor_seconds() - before)
        listening = [self._listening_seconds() for _ in range(self._rounds)]
        share = spread.median(listening) / spread.median(busy)
        return [
            *(
                Figure(
                    f"seconds of audio a second, {count} at once", f">= {aim}", f"{spread.median(found):.0f}",
                    spread.median(found) >= aim,
                    f"±{spread.half_range(found):.0%}, {len(found)} rounds of {self._usual.seconds:.0f} s",
                )
                for (count, found), aim in zip(rates.items(), self._aims(), strict=True)
            ),
            Figure(
                "the detector's share of the processor time", "<= 30 %", f"{share:.0%}", share <= 0.3,
                f"{spread.median(listening):.2f} of {spread.median(busy):.2f} s for {self._usual.seconds:.0f} s of audio",
            ),
        ]  # fmt: skip

    def _aims(self) -> tuple[int, int]:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as info:
            return (100, 120) if "vnni" in info.read() else (60, 70)

    def _listening_seconds(self) -> float:
        """Processor time for cutting the recording alone."""
        detector = open_detector(PREPARED)
        cutter = registry.cutting(detector, registry.family_in(PREPARED), self._settings).cutter()
        started = time.process_time()
        for block in long_audio(self._usual.samples, SAMPLE_RATE).blocks:
            cutter.push(block)
        cutter.finish()
        return time.process_time() - started

    def _processor_seconds(self) -> float:
        """Of the server and its models so far."""
        total = 0.0
        for process in (self._server.pid or 0, *model_processes(self._server.pid or 0).values()):
            fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    def fairness(self, second: Samples) -> list[Figure]:
        """p95 of one caller's requests of 1 s while long files run, against quiet, interleaved."""
        content = flac(np.tile(self._usual.samples, 2))
        quiet: list[float] = []
        figures = []
        with self._client() as client:
            for count in (1, FILES_AT_ONCE):
                beside: list[float] = []
                for _ in range(self._rounds):
                    quiet += _latencies(client, second, lambda sent: sent >= 40)
                    with ThreadPoolExecutor(count) as pool:
                        files = [pool.submit(client.transcribe, content) for _ in range(count)]
                        time.sleep(0.5)
                        beside += _latencies(client, second, lambda _, files=files: any(one.done() for one in files))  # type: ignore[misc]
                ratio = spread.percentile(beside, 95) / spread.percentile(quiet, 95)
                figures.append(
                    Figure(
                        f"p95 of a 1 s request beside {count} long files, against quiet", "<= 5x", f"{ratio:.1f}x",
                        ratio <= 5, f"{1000 * spread.percentile(quiet, 95):.0f} -> {1000 * spread.percentile(beside, 95):.0f} ms, "
                        f"{len(quiet)} and {len(beside)} requests",
                    )
                )  # fmt: skip
        return figures

    def memory(self) -> list[Figure]:
        """Greatest resident memory of decoder_loop's process so far, after an hour and after four."""
        process = model_processes(self._server.pid or 0)["decoder_loop"]
        figures = []
        with self._client() as client:
            for hours in (1, 4):
                started = time.perf_counter()
                client.transcribe(flac(np.resize(self._usual.samples, hours * HOUR * SAMPLE_RATE)))
                took, peak = time.perf_counter() - started, peak_megabytes(process)
                figures.append(
                    Figure(
                        f"memory of the decoder_loop process, {hours} h FLAC", "<= 700 MB", f"{peak:.0f} MB", peak <= 700,
                        f"greatest so far; {took:.0f} s",
                    )
                )  # fmt: skip
        return figures

    def _client(self) -> AsrClient:
        return AsrClient(self._server.grpc, timeout=TIMEOUT)


def _latencies(client: AsrClient, samples: Samples, enough: Callable[[int], bool]) -> list[float]:
    found: list[float] = []
    while not enough(len(found)):
        started = time.perf_counter()
        client.transcribe(samples)
        found.append(time.perf_counter() - started)
    return found


def flac(samples: Samples) -> bytes:
    """As a 16-bit file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def peak_megabytes(process: int) -> float:
    """The greatest resident memory so far, in MB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
