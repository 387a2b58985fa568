"""The arms of the ladder, running and measured in turns: servers, services and load generators, each in its best layouts."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from asrloop import paths
from asrloop.assembly import INBOX_OF_BATCH
from asrloop.config import Settings
from asrloop.families import registry
from asrloop.families.moonshine.decoding import INFO
from asrloop.tritonserver import beside
from asrloop.wheels import MOONSHINE_MODEL, moonshine_assets, whisper_model
from asrloop_bench import vendor as vendors
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.accuracy import WordErrors, word_errors
from asrloop_bench.ladder import client_loops, peers
from asrloop_bench.ladder.rungs import APART, ARMS, OURS, OWN, SHARED, TOGETHER, WHISPER, cores, repository
from asrloop_bench.load import callers
from asrloop_bench.load.generators import Generators, Turn, write_clips
from asrloop_bench.method import spread, target
from asrloop_bench.method.clips import Clip, Reference
from asrloop_bench.method.interleave import in_rounds

PROCESSES = 4
"""Load generators of all arms but the vendor's runtime, whose own process is its load generator."""

MOST_CALLERS = 16
"""Callers that send the clips of a manifest."""

Ask = Callable[[int, Sequence[str], float], Turn]
"""Makes a turn of so many callers over clips of these names for so many seconds."""
Arms = dict[str, dict[str, Ask]]
Cells = dict[str, dict[str, Any]]


@contextmanager
def opened(settings: Settings, names: Sequence[str], clips: Sequence[Clip], most_callers: int) -> Iterator[Arms]:
    """Start the arms ``names``; all ends with the context. Raises TritonError, WheelError, PeerError."""
    made: Arms = {name: {} for name in names}
    vendors.prepare()
    # As many callers as wait must fit the inbox, whatever config.yaml says.
    inbox = {"ASRLOOP_ENGINE__INBOX": str(max(INBOX_OF_BATCH, settings.engine.inbox, most_callers))}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=paths.cache())))
        clip_file = str(write_clips(scratch / "clips.npz", clips))
        generators = stack.enter_context(Generators([sys.executable, client_loops.__file__, clip_file], PROCESSES))

        def ask_by(*way: str, processes: Generators = generators) -> Ask:
            return lambda count, order, seconds: processes.turn(way, count, order, seconds)

        for layout in (TOGETHER, APART):
            ours = [name for name in names if name in OURS and (layout == TOGETHER or OURS[name].alone != OWN)]
            if ours:
                more = [repository(layout, scratch / "models"), *([whisper_repository()] if WHISPER in ours else [])]
                server = stack.enter_context(target.started(settings, more_repositories=more, environment=inbox))
                for name in ours:
                    model = OURS[name].model
                    way = ("triton", server.grpc, model) if model else (name, server.grpc)
                    made[name][OWN if OURS[name].alone == OWN else layout] = ask_by(*way)
        if "fastapi" in names:
            for layout, workers in {SHARED: 1, APART: cores()}.items():
                port = stack.enter_context(peers.started("fastapi", PREPARED, workers, 1, INFO.windows.longest))
                made["fastapi"][layout] = ask_by("http", str(port))
        if "faster_whisper" in names:
            tiny_en = whisper_model(paths.cache())
            for layout, numbers in {TOGETHER: (1, cores()), APART: (cores(), 1)}.items():
                port = stack.enter_context(peers.started("faster_whisper", tiny_en, *numbers))
                made["faster_whisper"][layout] = ask_by("http", str(port))
        if "vendor_runtime" in names:
            python = str(peers.python_of("vendor_runtime"))
            assets = str(moonshine_assets(paths.cache()) / MOONSHINE_MODEL)
            own = stack.enter_context(Generators([python, callers.__file__, clip_file]))
            made["vendor_runtime"][TOGETHER] = ask_by("vendor", assets, processes=own)
        yield made


def whisper_repository() -> Path:
    """Return a repository with the recognizer WHISPER, made where it is missing."""
    target = paths.cache() / "ladder-whisper"
    target.mkdir(exist_ok=True)
    with beside.made(target, WHISPER) as directory:
        if not registry.holds(directory, WHISPER):
            registry.build(WHISPER, None, directory)
    return target


def word_errors_of(arms: Arms, speech: Mapping[str, Reference]) -> dict[str, WordErrors]:
    """Return the word errors of each arm for clips by name, in its layout for several callers. Raises LoadError."""
    found: dict[str, WordErrors] = {}
    names = list(speech)
    for arm, layouts in arms.items():
        texts: dict[str, str] = {}
        for at in range(0, len(names), MOST_CALLERS):
            some = names[at : at + MOST_CALLERS]
            turn = layouts[ARMS[arm].layout(len(some))](len(some), some, 0.0)  # each caller sends one
            texts |= {name: min(turn.texts[name]) for name in some}
        found[arm] = word_errors([one.text for one in speech.values()], [texts[name] for name in names])
    return found


def measure(
    arms: Arms,
    clips: Sequence[Clip],
    counts: Sequence[int],
    rounds: int,
    until: float,
    progress: Callable[[str], None],
    cells: Cells,
    loads: list[dict[str, float]],
) -> None:
    """Measure every cell ``rounds`` times with every arm into ``cells``; see ``method.interleave``. Raises LoadError."""
    planned = {
        f"{clip.seconds:g} s, {count} caller{'s' if count > 1 else ''}": (clip, count)
        for count in sorted(counts)
        for clip in clips
    }
    names = {cell: name for name, cell in planned.items()}

    def turn(cell: tuple[Clip, int], name: str, is_warm_up: bool = False) -> Turn:
        clip, count = cell
        return arms[name][ARMS[name].layout(count)](count, [clip.name], 0.0 if is_warm_up else _seconds(clip, count))

    def keep(cell: tuple[Clip, int], name: str, turn: Turn) -> None:
        clip, count = cell
        empty: dict[str, Any] = {"clip_seconds": clip.seconds, "callers": count, "arms": {}}
        layout = ARMS[name].layout(count)
        kept = cells.setdefault(names[cell], empty)["arms"]
        arm = kept.setdefault(name, {"layout": layout, "rounds": [], "latencies": [], "texts": []})
        # Latency of one caller, the inverse of the throughput of several.
        taken = spread.median(turn.latencies) if count == 1 else turn.seconds_per_request()
        arm["rounds"].append(round(taken, 6))
        arm["latencies"] += [round(seconds, 5) for seconds in turn.latencies]
        arm["texts"] = sorted({*arm["texts"], *(text for texts in turn.texts.values() for text in texts)})

    for name, cell in planned.items():
        progress(f"warm-up, {name}")
        for arm in arms:
            turn(cell, arm, is_warm_up=True)
    in_rounds(planned, list(arms), turn, keep, rounds=rounds, until=until, progress=progress, loads=loads)


def _seconds(clip: Clip, count: int) -> float:
    """Return the length of a turn: some requests of the faster arms. Every caller makes one at least."""
    return max(0.5, 0.1 * clip.seconds) if count == 1 else max(1.0, 0.4 * clip.seconds)
