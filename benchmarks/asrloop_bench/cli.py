"""The command `asrloop-bench`: the sweep, the comparison with another commit, the ladder, the single figures."""

import typer

from asrloop_bench.compare.command import compare
from asrloop_bench.figures.table import COMMANDS
from asrloop_bench.ladder import command as ladder
from asrloop_bench.operations.demo import demo_ops
from asrloop_bench.sweep.command import sweep

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
