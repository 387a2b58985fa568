"""The command `asrloop-bench`: the sweep, the comparison with another commit, the ladder, the single figures."""

import typer

from asrloop_bench.compare.command import compare
from asrloop_bench.figures import command as figures
from asrloop_bench.figures import performance_page
from asrloop_bench.figures.live.command import live
from asrloop_bench.ladder import command as ladder
from asrloop_bench.operations.balancer_cost import balancer
from asrloop_bench.operations.demo import demo_ops
from asrloop_bench.sweep.command import sweep

app = typer.Typer(help="Measures asrloop.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(sweep)
app.command()(compare)

steps = typer.Typer(help="Ways to serve the same speech, compared in one run.", no_args_is_help=True)
steps.command()(ladder.run)
steps.command()(ladder.readme)
app.add_typer(steps, name="ladder")

app.command()(figures.engine)
app.command()(figures.wer)
app.command()(figures.confidence)
app.command()(figures.drafts)
app.command()(figures.recordings)
app.command()(live)
app.command("not-helpful")(figures.not_helpful_page)
app.command("client-pool")(figures.pool)
app.command()(figures.gateway)
app.command()(performance_page.layers)
app.command()(performance_page.scale)
app.command()(figures.transducer)
app.command()(balancer)
app.command()(demo_ops)

if __name__ == "__main__":
    app()
