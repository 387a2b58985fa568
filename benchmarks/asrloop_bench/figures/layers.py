"""The parts of the time of one request that is alone: the same clip through more and more of what serves it."""

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
import typer
from asrloop_client import AsrClient

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop_bench import in_process
from asrloop_bench.checkout import IDLE_MODELS
from asrloop_bench.figures.aims import compared
from asrloop_bench.figures.figure import Run, speech
from asrloop_bench.load import callers
from asrloop_bench.method import markdown, spread
from asrloop_bench.method.interleave import Measured, timed

LAYERS = {
    "encoder": "the encoder's graph",
    "decoder": "the decoder's graph, a step for each token",
    "engine": "the engine: threads, queue, slot, whether there is speech, text and tensors",
    "nothing": "gRPC, Triton and the way to a Python process and back, with a model that does nothing",
    "rest": "what engine and server cost each other, such as caches",
    "client": "this project's client in place of NVIDIA's",
}
"""The parts in the order of the table; the first two are the floor."""


def layers(run: Run, seconds: Annotated[float, typer.Option(help="Time for the measuring.")] = 30.0) -> str:
    """Split the time of a lone 1 s request into its parts."""
    with run.server(IDLE_MODELS) as server:
        return table(measured(speech(1.0)[1.0], server.grpc, run.settings, seconds))


def measured(samples: Samples, server: str, settings: Settings, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of each part of LAYERS in every round; ``samples`` are f32 [N], 16 kHz.

    The ``server`` also has ``does_nothing``.
    """
    family, engines_own = in_process.open_family(settings), in_process.open_family(settings)
    with in_process.engine(engines_own, settings, listens=True) as engine, AsrClient(server) as client:
        nothing, ensemble = (callers.triton(server, model)() for model in ("does_nothing", "asr_ensemble"))
        asked: Mapping[str, Callable[[], object]] = {
            "encoder": lambda: in_process.encode(family, samples, alone=True),
            "graphs": lambda: in_process.decode(family, samples),
            "engine": lambda: in_process.Asked(engine, [samples]).answer().result(engines_own),
            "nothing": lambda: nothing(samples),
            "request": lambda: ensemble(samples),
            "client": lambda: client.transcribe(samples),
        }
        arms = {name: _warm(call) for name, call in asked.items()}
        found = {name: np.array(one.rounds) for name, one in compared(arms, seconds).items()}
    parts = {
        "encoder": found["encoder"],
        "decoder": found["graphs"] - found["encoder"],
        "engine": found["engine"] - found["graphs"],
        "nothing": found["nothing"],
        "rest": found["request"] - found["engine"] - found["nothing"],
        "client": found["client"] - found["request"],
    }
    return {name: rounds.tolist() for name, rounds in parts.items()}


def table(found: Mapping[str, list[float]]) -> str:
    parts = {name: spread.median(found[name]) for name in LAYERS}
    whole = sum(parts.values())
    named = [*((text, parts[name]) for name, text in LAYERS.items()), ("together", whole)]
    rows = [[text, f"{1000 * part:.2f}", f"{part / whole:.0%}"] for text, part in named]
    floor = 1000 * (parts["encoder"] + parts["decoder"])
    return (
        f"{markdown.table(['part', 'ms', 'share'], rows, numbers_from=1)}\n\n"
        f"The floor, the two graphs alone: {floor:.2f} ms. Medians of {len(found['engine'])} rounds, parts being\n"
        "differences within rounds."
    )


def _warm(call: Callable[[], object]) -> Callable[[], Measured]:
    """Time the second of two calls: the first finds the processor's caches full of another process's model."""
    once = timed(call)
    return lambda: [once(), once()][1]
