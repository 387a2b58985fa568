"""Compare commits, compare ways to serve the same speech, measure accuracy, and write the results into the README."""

import sys
from pathlib import Path

import typer
from asrloop_bench.compare.command import compare
from asrloop_bench.figures import command as figures
from asrloop_bench.ladder import command as ladder

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (ladder.run, compare, figures.wer, ladder.readme, figures.engine):
    app.command()(command)
app.command("not-helpful")(figures.not_helpful_page)

if __name__ == "__main__":
    app(prog_name=Path(sys.argv[0]).name)
