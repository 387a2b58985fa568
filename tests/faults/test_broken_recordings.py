"""Broken recordings of all containers that FFmpeg reads: each gets an error or a text within bounds, and neighbours are right."""

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from tests.audio.recordings import RECORDINGS
from tests.faults.conftest import Report, short_and_long
from tests.faults.harness import Outcomes, Serving, Speech
from tests.faults.test_hostile_files import broken, outcome_of

MOST_SECONDS, MOST_BYTES = 2.0, 200 << 20


@short_and_long("files", 60, 2_000)
def test_broken_recordings(
    files: int, serving: Serving, speech: Speech, beckett: NDArray[np.float32], report: Report
) -> None:
    random_ = random.Random(28)
    originals = [make(beckett[:48_000]) for make in RECORDINGS.values()]
    outcomes, before = Outcomes(), serving.processes()
    warm = triton.InferInput("AUDIO", [1, 1], "BYTES")
    warm.set_data_from_numpy(np.array([[originals[0]]], np.object_))
    with triton.InferenceServerClient(serving.address) as client:
        outcome_of(client, warm)
        memory = peak(before["audio_frontend"])
        with neighbour(serving, speech) as neighbours:
            for number in range(files):
                content = broken(originals[number % len(originals)], random_)
                tensor = triton.InferInput("AUDIO", [1, 1], "BYTES")
                tensor.set_data_from_numpy(np.array([[content]], np.object_))
                started = time.monotonic()
                outcome = outcome_of(client, tensor)
                outcomes.add(outcome, time.monotonic() - started)
    report(outcomes, f"+{(peak(before['audio_frontend']) - memory) >> 20} MiB")
    assert set(outcomes.counts) <= {"transcribed", "invalid_audio", "too_long"}
    assert set(neighbours.counts) == {"ok"}
    assert serving.processes() == before
    assert peak(before["audio_frontend"]) - memory < MOST_BYTES
    assert outcomes.slowest < MOST_SECONDS * 5, "a busy machine is forgiven, a file that is not bounded is not"


@contextmanager
def neighbour(serving: Serving, speech: Speech) -> Iterator[Outcomes]:
    """Someone who sends a good file again and again."""
    outcomes, over = Outcomes(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            started = time.monotonic()
            outcomes.add(speech.ask(serving.address, by_file=True), time.monotonic() - started)
            over.wait(0.2)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield outcomes
    finally:
        over.set()
        asking.join(30)


def peak(process: int) -> int:
    """The most memory that it had, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]
