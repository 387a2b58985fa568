"""`asrloop run` from a checkout."""

import typer

from asrloop.cli import run

if __name__ == "__main__":
    typer.run(run)
