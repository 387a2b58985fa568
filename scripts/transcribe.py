"""Transcribe files with the same engine and no Triton: for looking at the models and for measuring the engine alone."""

import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from asrloop import audio, config
from asrloop.engine import Engine
from asrloop.families import open_family
from asrloop.scheduler import Scheduler
from asrloop.utterance import Utterance

ROOT = Path(__file__).resolve().parents[1]


def main(
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    model_repository: Annotated[Path, typer.Option(help="Folder with the models.")] = ROOT / "model_repository",
) -> None:
    """Transcribe files side by side, without a server."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        settings = config.load()
        rows = [audio.from_file(path.read_bytes(), settings.audio.max_seconds) for path in files]
        family = open_family(model_repository, settings)
    except (OSError, ValueError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    left = threading.Semaphore(0)
    utterances = [Utterance(row, on_done=lambda _: left.release()) for row in rows]
    engine = Engine(
        family, Scheduler(settings.engine.slots, max(len(rows), settings.engine.inbox), queue_timeout=3600.0)
    )
    started = time.perf_counter()
    engine.submit(*utterances)
    for _ in utterances:
        if not left.acquire(timeout=600):
            raise TimeoutError("no utterance ended within 600 s; the engine hangs")
    took = time.perf_counter() - started
    engine.close()
    for path, utterance in zip(files, utterances, strict=True):
        console.print(f"{path}: {utterance.error or family.text(utterance.tokens)}", markup=False)
    seconds = sum(row.size for row in rows) / audio.SAMPLE_RATE
    console.print(f"{seconds:.1f} s of audio in {took:.2f} s, real-time factor {took / seconds:.3f}")
    if any(utterance.error for utterance in utterances):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
