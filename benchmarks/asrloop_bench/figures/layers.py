"""Where the time of one request goes that is alone: the same clip through more and more of what serves it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from asrloop_client import AsrClient

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.engine.engine import Engine
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.families.registry import encoders, open_family
from asrloop.speech.detector import open_detector
from asrloop.speech.gate import speech_gate
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.figure import SLOTS, compared, tokens_alone
from asrloop_bench.load import callers
from asrloop_bench.method import spread
from asrloop_bench.method.interleave import Measured, timed

LIMIT_SECONDS = 60.0

LAYERS = {
    "encoder": "the encoder's graph",
    "decoder": "the decoder's graph, a step for each token",
    "engine": "the engine: threads, queue, slot, whether there is speech, text and tensors",
    "nothing": "gRPC, Triton and the way to a Python process and back, with a model that does nothing",
    "rest": "what engine and server cost each other, such as caches",
    "client": "this project's client in place of NVIDIA's",
}
"""The parts in the order of the table; the first two are the floor."""


def measured(samples: Samples, server: str, settings: Settings, seconds: float) -> dict[str, list[float]]:
    """Seconds of each part of LAYERS in every round; ``samples`` are f32 [N], 16 kHz, ``server`` also has ``does_nothing``."""
    family = open_family(PREPARED, settings)
    with _engine(settings) as through_engine, AsrClient(server) as client:
        nothing, ensemble = (callers.triton(server, model)() for model in ("does_nothing", "asr_ensemble"))
        asked: Mapping[str, Callable[[], object]] = {
            "encoder": lambda: family.encode(samples, alone=True),
            "graphs": lambda: tokens_alone(family, samples),
            "engine": lambda: through_engine(samples),
            "nothing": lambda: nothing(samples),
            "request": lambda: ensemble(samples),
            "client": lambda: client.transcribe(samples),
        }
        arms = {name: _warm(call) for name, call in asked.items()}
        found = {name: one.rounds for name, one in compared(arms, seconds).items()}
    rounds = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    return {
        "encoder": [one["encoder"] for one in rounds],
        "decoder": [one["graphs"] - one["encoder"] for one in rounds],
        "engine": [one["engine"] - one["graphs"] for one in rounds],
        "nothing": [one["nothing"] for one in rounds],
        "rest": [one["request"] - one["engine"] - one["nothing"] for one in rounds],
        "client": [one["client"] - one["request"] for one in rounds],
    }


def markdown(found: Mapping[str, list[float]]) -> str:
    """The parts as a table, with the floor and the whole."""
    parts = {name: spread.median(found[name]) for name in LAYERS}
    whole = sum(parts.values())
    floor = parts["encoder"] + parts["decoder"]
    lines = ["| part | ms | share |", "| --- | ---: | ---: |"]
    lines += [f"| {text} | {1000 * parts[name]:.2f} | {parts[name] / whole:.0%} |" for name, text in LAYERS.items()]
    lines += [
        f"| together | {1000 * whole:.2f} | {1:.0%} |",
        "",
        f"The floor, the two graphs alone: {1000 * floor:.2f} ms. Medians of {len(found['engine'])} rounds, parts being",
        "differences within rounds.",
    ]
    return "\n".join(lines)


def _warm(call: Callable[[], object]) -> Callable[[], Measured]:
    """Times the second of two calls: the first finds the processor's caches full of another process's model."""
    once = timed(call)

    def second() -> Measured:
        call()
        return once()

    return second


@contextmanager
def _engine(settings: Settings) -> Iterator[Callable[[Samples], None]]:
    """An engine of this process as decoder_loop has it; what is given decodes a clip with it and makes the outputs."""
    family = open_family(PREPARED, settings)
    limits = settings.engine
    scheduler = Scheduler(SLOTS, limits.inbox, limits.queue_timeout_seconds, encoders(settings))
    engine = Engine(family, scheduler, has_speech=speech_gate(open_detector(PREPARED), settings))

    def decode(samples: Samples) -> None:
        ended = threading.Event()

        def answer(done: Request) -> None:
            done.result(family)
            ended.set()

        engine.submit(Request([samples], on_done=answer))
        if not ended.wait(LIMIT_SECONDS):
            raise TimeoutError(f"not decoded after {LIMIT_SECONDS:g} s")

    try:
        yield decode
    finally:
        engine.close()
