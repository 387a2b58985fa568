"""`asrloop transcribe` from a checkout."""

import typer

from asrloop.cli import transcribe

if __name__ == "__main__":
    typer.run(transcribe)
