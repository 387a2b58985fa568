"""The console that commands print tables and notes on, and the progress bar of a run."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

# Tables in a log are not squeezed to a terminal that is not there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


@contextmanager
def progress_of(
    total: int, save: Callable[[], None], notes: list[str], *more: ProgressColumn
) -> Iterator[Callable[[str], None]]:
    """Show a bar; give a function that is called with the name of each of ``total`` parts before it, and saves the results so far.

    ``more`` are columns of the bar. Ctrl-C ends the run with a note.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *more)
    with Progress(*columns, console=console) as bar:
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
