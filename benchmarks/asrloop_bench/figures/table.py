"""All figures: the command of each, and the section of the page that it writes."""

from asrloop_bench.figures.accuracy import wer
from asrloop_bench.figures.confidence import confidence
from asrloop_bench.figures.engine import engine
from asrloop_bench.figures.figure import Figure
from asrloop_bench.figures.layers import layers
from asrloop_bench.figures.live.command import live
from asrloop_bench.figures.long_recordings import recordings
from asrloop_bench.figures.ways import balancer, gateway, pool

FIGURES = (
    Figure("engine", engine, "docs/engine.md"),
    Figure("wer", wer),
    Figure("confidence", confidence, "docs/confidence.md"),
    Figure("recordings", recordings, "docs/long-recordings.md"),
    Figure("live", live, "docs/live.md"),
    Figure("client-pool", pool, "client/README.md"),
    Figure("gateway", gateway, "docs/gateway.md"),
    Figure("layers", layers, "docs/performance.md", "layers"),
    Figure("balancer", balancer, "docs/operations.md", "balancer"),
)
COMMANDS = {figure.name: figure.command() for figure in FIGURES}
