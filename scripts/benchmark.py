"""Compare commits, compare ways to serve the same speech, measure accuracy, and write the results into the README."""

import sys
from pathlib import Path

import typer
from asrloop_bench.cli import COMMANDS
from asrloop_bench.compare.command import compare
from asrloop_bench.ladder import command as ladder

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (ladder.run, compare, ladder.readme):
    app.command()(command)
for name in ("wer", "engine"):
    app.command(name)(COMMANDS[name])

if __name__ == "__main__":
    app(prog_name=Path(sys.argv[0]).name)
