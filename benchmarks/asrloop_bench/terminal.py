"""What the commands print on: tables and notes on standard output, a bar that says how far a run is."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

# Tables in a log are not squeezed to a terminal that is not there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def progress_bar(*more: ProgressColumn) -> Progress:
    """A bar with what is measured now, how many points are done, the time so far, and ``more``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, *more, console=console)


def print_notes(notes: Sequence[str]) -> None:
    """What a run has to say about itself, such as points it left out."""
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False)
