"""The console that commands print tables and notes on, and the progress bar of a run."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

# Tables in a log are not squeezed to a terminal that is not there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def progress_bar(*more: ProgressColumn) -> Progress:
    """Return a bar with the point under way, the number of points done, the time so far, and ``more``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, *more, console=console)


@contextmanager
def progress_of(total: int, save: Callable[[], None], notes: list[str]) -> Iterator[Callable[[str], None]]:
    """Give a function that is called before each of ``total`` parts, with its name, and saves what was measured before.

    Ctrl-C ends the run with a note; what there is was saved.
    """
    with progress_bar() as bar:
        task = bar.add_task("", total=total)

        def progress(name: str) -> None:
            bar.update(task, advance=1, description=name)
            save()

        try:
            yield progress
        except KeyboardInterrupt:
            notes.append("interrupted: this is what there is")
    save()


def print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False)
