"""Keeps C libraries from writing to the log: libmpg123 writes a line for each damaged frame, 13 MB for a file of 16 MB."""

import os
import sys


def silence_libraries() -> None:
    """Send what C code of this process writes to stderr to nowhere. What Python writes to sys.stderr still goes where it went."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
