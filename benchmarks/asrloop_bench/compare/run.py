"""Drives two servers in turns, and keeps every number as it comes."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from asrloop_bench.compare.cells import Cell
from asrloop_bench.compare.tree import Tree, served
from asrloop_bench.load import callers as callers_file
from asrloop_bench.load.generators import Generators, Turn, write_clips
from asrloop_bench.method import clips as speech
from asrloop_bench.method.interleave import in_rounds

ARMS = ("base", "new")
CLIPS = 4
"""Different clips of each length."""
WARM_UP_TURNS = 2

Cells = dict[str, dict[str, Any]]


class Comparison:
    """Both servers with their load generators. ``cells`` has the results so far, as plain data."""

    def __init__(
        self, generators: Mapping[tuple[str, str], tuple[Generators, str]], clips: Mapping[float, Sequence[speech.Clip]]
    ) -> None:
        self.cells: Cells = {}
        self.loads: list[dict[str, float]] = []
        self._generators = generators
        self._clips = clips

    def measure(self, cells: Sequence[Cell], rounds: int, until: float, progress: Callable[[str], None]) -> None:
        """Measure every cell ``rounds`` times, each with both arms in turns; see ``method.interleave``. Raises LoadError."""
        for cell in cells:
            progress(f"warm-up {cell.name}")
            for _ in range(WARM_UP_TURNS):
                for arm in ARMS:
                    self._turn(cell, arm, seconds=min(cell.seconds, 2.0))

        in_rounds(
            {cell.name: cell for cell in cells}, ARMS, lambda cell, arm: self._turn(cell, arm, cell.seconds), self._keep,
            rounds=rounds, until=until, progress=progress, loads=self.loads,
        )  # fmt: skip

    def _turn(self, cell: Cell, arm: str, seconds: float) -> Turn:
        by_length = [self._clips[length] for length in cell.mix]
        order = [clip.name for clip in speech.mixed(by_length, list(cell.mix.values()))]
        generators, endpoint = self._generators[cell.way, arm]
        return generators.turn((cell.way, endpoint), cell.callers, order, seconds)

    def _keep(self, cell: Cell, arm: str, turn: Turn) -> None:
        kept = self.cells.setdefault(cell.name, {}).setdefault(arm, {"latencies": [], "texts": {}})
        for measure in cell.measures:
            kept.setdefault(measure.name, []).append(round(measure.of(turn), 6))
        kept["latencies"] += [round(seconds, 5) for seconds in turn.latencies]
        for name, texts in turn.texts.items():
            kept["texts"][name] = sorted({*kept["texts"].get(name, ()), *texts})


@contextmanager
def started(base: Tree, new: Tree, cells: Sequence[Cell], processes: int) -> Iterator[Comparison]:
    """Start both servers and ``processes`` load generators for each; all end with the context. Raises TreeError, WheelError."""
    files = speech.speech_files()
    clips = {
        length: speech.cut(files, length, CLIPS) for length in sorted({length for cell in cells for length in cell.mix})
    }
    script = str(Path(callers_file.__file__).resolve())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = str(write_clips(folder / "clips.npz", [clip for several in clips.values() for clip in several]))
        generators: dict[tuple[str, str], tuple[Generators, str]] = {}
        for arm, tree in zip(ARMS, (base, new), strict=True):
            endpoint = stack.enter_context(served(tree))
            for way in {cell.way for cell in cells}:
                # The same load on both servers; a client that is compared is one process, which its callers share.
                python, count = (tree.python, 1) if way == "client" else (new.python, processes)
                command = [str(python), script, path]
                generators[way, arm] = stack.enter_context(Generators(command, count)), endpoint
        yield Comparison(generators, clips)
