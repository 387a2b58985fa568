"""`asrloop serve` from a checkout."""

import typer

from asrloop.cli import serve

if __name__ == "__main__":
    typer.run(serve)
