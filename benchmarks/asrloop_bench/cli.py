"""The command `asrloop-bench`: the sweep, the comparison with another commit, the ladder, the single figures."""

import typer

from asrloop_bench.compare.command import compare
from asrloop_bench.figures.accuracy import wer
from asrloop_bench.figures.aiperf import gateway_load
from asrloop_bench.figures.batches import batches
from asrloop_bench.figures.confidence import confidence
from asrloop_bench.figures.engine import engine
from asrloop_bench.figures.figure import Figure
from asrloop_bench.figures.layers import layers
from asrloop_bench.figures.live.beside import live_beside_files
from asrloop_bench.figures.live.command import live
from asrloop_bench.figures.live.turns import turns
from asrloop_bench.figures.long_recordings import recordings
from asrloop_bench.figures.speakers import speakers
from asrloop_bench.figures.ways import balancer, gateway, pool
from asrloop_bench.figures.words import words
from asrloop_bench.ladder import command as ladder
from asrloop_bench.operations.demo import demo_ops
from asrloop_bench.sweep.command import sweep

FIGURES = (
    Figure("engine", engine, "docs/engine.md"),
    Figure("wer", wer),
    Figure("confidence", confidence, "docs/confidence.md"),
    Figure("recordings", recordings, "docs/long-recordings.md"),
    Figure("live", live, "docs/live.md"),
    Figure("live-beside-files", live_beside_files, "docs/live.md", "beside files"),
    Figure("turns", turns, "docs/live.md", "turns"),
    Figure("words", words, "docs/words.md"),
    Figure("speakers", speakers, "docs/speakers.md"),
    Figure("client-pool", pool, "client/README.md"),
    Figure("gateway", gateway, "docs/gateway.md"),
    Figure("gateway-load", gateway_load, "docs/performance.md", "aiperf"),
    Figure("batches", batches, "docs/performance.md", "batches"),
    Figure("layers", layers, "docs/performance.md", "layers"),
    Figure("balancer", balancer, "docs/operations.md", "balancer"),
)
COMMANDS = {figure.name: figure.command() for figure in FIGURES}

app = typer.Typer(help="Measures asrloop.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(sweep)
app.command()(compare)
for name, command in COMMANDS.items():
    app.command(name)(command)
app.command()(demo_ops)

steps = typer.Typer(help="Ways to serve the same speech, compared in one run.", no_args_is_help=True)
steps.command()(ladder.run)
steps.command()(ladder.readme)
app.add_typer(steps, name="ladder")

if __name__ == "__main__":
    app()
