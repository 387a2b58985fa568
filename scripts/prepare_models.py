"""`asrloop models` from a checkout."""

import typer

from asrloop.cli import models

if __name__ == "__main__":
    typer.run(models)
