"""The arms of the ladder, running: servers, services and load generators, each arm in the layouts that suit it best."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from asrloop import paths
from asrloop.config import Settings
from asrloop.wheels import MOONSHINE_MODEL, moonshine_assets
from asrloop_bench.ladder import client_loops
from asrloop_bench.ladder.peers import service
from asrloop_bench.ladder.rungs import APART, OWN, RUNGS, SHARED, TOGETHER, cores, repository
from asrloop_bench.load import callers
from asrloop_bench.load.generators import Generators, Turn, write_clips
from asrloop_bench.method import target
from asrloop_bench.method.clips import Clip
from asrloop_bench.vendor import files

PROCESSES = 4
"""Load generators of all arms but the vendor's runtime, whose own process is its load generator."""

Ask = Callable[[int, Sequence[str], float], Turn]
"""Makes a turn of so many callers over clips of these names for so many seconds."""
Arms = dict[str, dict[str, Ask]]


@contextmanager
def opened(settings: Settings, names: Sequence[str], clips: Sequence[Clip], most_callers: int) -> Iterator[Arms]:
    """Start the arms ``names``; all ends with the context. Raises TritonError, WheelError, PeerError."""
    made: Arms = {name: {} for name in names}
    files.prepare()
    # As many callers as wait must fit the inbox, whatever config.yaml says.
    inbox = {"ASRLOOP_ENGINE__INBOX": str(max(settings.engine.inbox, most_callers))}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=paths.cache())))
        clip_file = str(write_clips(scratch / "clips.npz", clips))
        generators = stack.enter_context(Generators([sys.executable, client_loops.__file__, clip_file], PROCESSES))

        def ask_by(*way: str, processes: Generators = generators) -> Ask:
            return lambda count, order, seconds: processes.turn(way, count, order, seconds)

        for layout in (TOGETHER, APART):
            rungs = [name for name in names if name in RUNGS and (layout == TOGETHER or name != "continuous")]
            if rungs:
                more = repository(layout, scratch / "models")
                server = stack.enter_context(target.started(settings, more_repositories=[more], environment=inbox))
                for rung in rungs:
                    model = RUNGS[rung].model
                    way = ("triton", server.grpc, model) if model else (rung, server.grpc)
                    made[rung][OWN if rung == "continuous" else layout] = ask_by(*way)
        if "fastapi" in names:
            for layout, workers in {SHARED: 1, APART: cores()}.items():
                port = stack.enter_context(service.started(settings, workers, threads=1))
                made["fastapi"][layout] = ask_by("http", str(port))
        if "vendor_runtime" in names:
            python = str(service.python_of("vendor_runtime"))
            assets = str(moonshine_assets(paths.cache()) / MOONSHINE_MODEL)
            own = stack.enter_context(Generators([python, callers.__file__, clip_file]))
            made["vendor_runtime"][TOGETHER] = ask_by("vendor", assets, processes=own)
        yield made
