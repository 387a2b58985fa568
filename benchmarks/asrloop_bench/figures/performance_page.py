"""The commands that write sections of docs/performance.md: the layers of a request, the simulation of larger machines."""

from typing import Annotated

import typer
from asrloop_client import AsrError

from asrloop import config
from asrloop.cli import one_line_errors
from asrloop.cores import usable_cores
from asrloop.families.registry import encoders
from asrloop_bench.checkout import IDLE_MODELS, ROOT
from asrloop_bench.figures import layers as parts
from asrloop_bench.figures import recording, scaling
from asrloop_bench.load.generators import LoadError
from asrloop_bench.method import clips, machine_load, markers, provenance, target
from asrloop_bench.terminal import console

PAGE = ROOT / "docs" / "performance.md"
SIMULATED = (1.0, 10.0)

Write = Annotated[bool, typer.Option("--write", help="Also write the section of docs/performance.md.")]


def layers(
    seconds: Annotated[float, typer.Option(help="Time for the measuring.")] = 30.0, write: Write = False
) -> None:
    """Where the time of a 1 s request goes that is alone, part by part."""
    with one_line_errors(AsrError):
        settings = config.load()
        about = provenance.describe(settings, load_before=machine_load.sample())
        clip = clips.cut(clips.speech_files(), 1.0, 1)[0].samples
        before = machine_load.now()
        with target.started(settings, more_repositories=[IDLE_MODELS]) as server:
            found = parts.measured(clip, server.grpc, settings, seconds)
        during = machine_load.between(before, machine_load.now())
        where = f"{provenance.in_words(about)}; {machine_load.in_words(about['load_before'], [during])}"
        _show(f"{parts.markdown(found)} `asrloop-bench layers --write`: {where}.", "layers", write)


def scale(write: Write = False) -> None:
    """A simulation, not a measurement: how throughput grows to 64 cores, from times recorded here."""
    with one_line_errors(LoadError):
        settings = config.load()
        about = provenance.describe(settings, load_before=machine_load.sample())
        files = clips.speech_files()
        speech = {seconds: clips.cut(files, seconds, 1)[0].samples for seconds in SIMULATED}
        before = machine_load.now()
        with target.started(settings, more_repositories=[IDLE_MODELS]) as server:
            recorded, answered = recording.record(speech, server.grpc, settings)
        during = machine_load.between(before, machine_load.now())
        cores = usable_cores()
        check = []
        for seconds, one in recorded.items():
            simulated = scaling.Simulation(one, cores, 1, encoders(settings), scaling.SLOTS).requests_per_second()
            times = ", ".join(
                f"{what} {1000 * took:.2f} ms"
                for what, took in (
                    ("encode and listen", one.encode), ("step of 1 row", one.step(1)), ("of 16 rows", one.step(16)),
                    ("the engine's Python", one.python), ("Triton and callers", one.outside),
                )
            )  # fmt: skip
            check.append(
                f"- {seconds:g} s: {times}; {one.steps_taken} steps. With 16 callers on {cores} cores simulated "
                f"{simulated:.0f} requests/s, measured {answered[seconds]:.0f}."
            )
        where = f"{provenance.in_words(about)}; {machine_load.in_words(about['load_before'], [during])}"
        written = [
            scaling.table(recorded),
            "",
            f"Recorded by `asrloop-bench scale --write` on {where}:",
            "",
            *check,
        ]
        _show("\n".join(written), "simulation", write)


def _show(text: str, section: str, write: bool) -> None:
    console.print(text, markup=False)
    if write:
        markers.write(PAGE, text, section)
        console.print(f"Written: {PAGE.name}, {section}")
