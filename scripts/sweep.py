"""`asrloop-bench sweep` from a checkout."""

import typer
from asrloop_bench.sweep.command import sweep

if __name__ == "__main__":
    typer.run(sweep)
