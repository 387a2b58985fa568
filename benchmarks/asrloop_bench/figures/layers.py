"""The parts of the time of one request that is alone: the same clip through more and more of what serves it."""

from collections.abc import Callable, Mapping
from typing import Annotated

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


def table(found: Mapping[str, list[float]]) -> str:
    """Return the parts as a table, with the floor and the whole."""
    parts = {name: spread.median(found[name]) for name in LAYERS}
    whole = sum(parts.values())
    named = {**{text: parts[name] for name, text in LAYERS.items()}, "together": whole}
    rows = [[text, f"{1000 * part:.2f}", f"{part / whole:.0%}"] for text, part in named.items()]
    floor = 1000 * (parts["encoder"] + parts["decoder"])
    return (
        f"{markdown.table(['part', 'ms', 'share'], rows, numbers_from=1)}\n\n"
        f"The floor, the two graphs alone: {floor:.2f} ms. Medians of {len(found['engine'])} rounds, parts being\n"
        "differences within rounds."
    )


def _warm(call: Callable[[], object]) -> Callable[[], Measured]:
    """Time the second of two calls: the first finds the processor's caches full of another process's model."""
    once = timed(call)

    def second() -> Measured:
        call()
        return once()

    return second
