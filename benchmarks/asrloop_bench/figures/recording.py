"""Records on this machine what the simulation of larger ones needs, and what this one really answers."""

import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.cores import usable_cores
from asrloop.engine.engine import Engine
from asrloop.engine.family import NOTHING, Emission
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.families.registry import open_family
from asrloop.speech.detector import open_detector
from asrloop.speech.gate import speech_gate
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.figure import tokens_alone
from asrloop_bench.figures.scaling import SLOTS, Recorded
from asrloop_bench.load import callers
from asrloop_bench.load.generators import Generators, write_clips
from asrloop_bench.method import spread
from asrloop_bench.method.clips import Clip
from asrloop_bench.method.interleave import timed

ROWS = (1, 2, 4, 8, 16)
ROUNDS = 50
PROCESSES = 4
TURN_SECONDS, TURNS = 2.0, 7
LIMIT_SECONDS = 60.0


def record(
    speech: Mapping[float, Samples], server: str, settings: Settings
) -> tuple[dict[float, Recorded], dict[float, float]]:
    """The times by the seconds of a clip f32 [N], and the requests per second of 16 callers that were measured.

    ``server`` also has ``does_nothing``.
    """
    nothing, answered = _throughputs(speech, server)
    one_thread = settings.engine.model_copy(update={"encoder_threads": 1, "decoder_threads": 1, "slots": SLOTS})
    family = open_family(PREPARED, settings.model_copy(update={"engine": one_thread}))
    has_speech = speech_gate(open_detector(PREPARED), settings)

    def heard(samples: Samples) -> None:
        family.encode(samples)
        if has_speech is not None:
            has_speech(samples)

    recorded = {}
    for seconds, samples in speech.items():
        encoded = family.encode(samples)
        tokens = len(tokens_alone(family, samples)) + 1
        steps = {}
        for rows in ROWS:
            took = []
            for _ in range(ROUNDS):
                for slot in range(rows):
                    family.admit(slot, encoded)
                took += timed(lambda rows=rows: family.step(range(rows)), min(4, tokens))().rounds  # type: ignore[misc]
            steps[rows] = spread.median(took)
        encode = spread.median([timed(lambda clip=samples: heard(clip))().rounds[0] for _ in range(ROUNDS)])  # type: ignore[misc]
        recorded[seconds] = Recorded(encode, steps, tokens, _python(tokens), usable_cores() / nothing)
    return recorded, answered


def _throughputs(speech: Mapping[float, Samples], server: str) -> tuple[float, dict[float, float]]:
    """Requests per second of 16 callers: of a model that does nothing, with the shortest clip, and of asr_ensemble."""
    clips = {seconds: Clip(f"{seconds:g}s", samples) for seconds, samples in speech.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = write_clips(Path(folder) / "clips.npz", list(clips.values()))
        with Generators([sys.executable, callers.__file__, str(path)], PROCESSES) as generators:

            def reached(model: str, clip: Clip) -> float:
                turns = [
                    generators.turn(("triton", server, model), SLOTS, [clip.name], TURN_SECONDS) for _ in range(TURNS)
                ]
                return 1 / spread.median([turn.seconds_per_request() for turn in turns[1:]])

            nothing = reached("does_nothing", clips[min(clips)])
            return nothing, {seconds: reached("asr_ensemble", clip) for seconds, clip in clips.items()}


class _NoModel:
    """A family that takes no time: what is left is the engine."""

    vocabulary_size = 1
    takes_drafts = False

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._left: dict[int, int] = {}

    def encode(self, samples: Samples, *, alone: bool = False) -> None:
        """Nothing."""

    def admit(self, slot: int, encoded: None, draft: Sequence[int] = (), given: int = 0) -> Emission:
        self._left[slot] = self._tokens
        return NOTHING

    def step(self, slots: Sequence[int]) -> list[Emission]:
        for slot in slots:
            self._left[slot] -= 1
        return [Emission((slot,), (), done=not self._left[slot], log_probs=(-0.1,)) for slot in slots]

    def confidence(self, log_probs: Sequence[float]) -> float:
        return 1.0

    def piece(self, token: int) -> str:
        return ""

    def text(self, tokens: Sequence[int]) -> str:
        return "nothing"


def _python(tokens: int, requests: int = 2000) -> float:
    """Seconds of the engine's own Python for each request, when 16 are always under way."""
    family: Any = _NoModel(tokens)
    engine = Engine(family, Scheduler(SLOTS, requests, LIMIT_SECONDS, 1))
    room, left = threading.Semaphore(SLOTS), threading.Semaphore(0)
    audio = np.zeros(1600, np.float32)

    def done(request: Request) -> None:
        request.result(family)
        room.release()
        left.release()

    began = time.perf_counter()
    try:
        for _ in range(requests):
            room.acquire(timeout=LIMIT_SECONDS)
            engine.submit(Request([audio], on_done=done))
        for _ in range(requests):
            if not left.acquire(timeout=LIMIT_SECONDS):
                raise TimeoutError(f"not decoded after {LIMIT_SECONDS:g} s")
        return (time.perf_counter() - began) / requests
    finally:
        engine.close()
