"""`asr-client health`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from asrloop_client.cli.connection import CONSOLE, FAILED, UNREACHABLE, Connect


def health(
    connection: Connect,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also have each server transcribe a second of voice.")] = False,
) -> None:
    """Ask each server whether it and its models are ready."""
    with connection(prewarm=False) as client:
        found = client.health(voice() if deep else None)
    table = Table("server", "live", "model", "ready", "transcript")
    for each in found:
        if as_json:
            typer.echo(json.dumps({**dataclasses.asdict(each), "ready": each.ready}))
        for model, ready in each.models.items():
            took = "" if each.seconds is None else f"{1000 * each.seconds:.0f} ms"
            table.add_row(each.address, _yes(each.live), model, _yes(ready), took)
        if each.error is not None:
            CONSOLE.print(f"error: {each.error}", style="red", markup=False)
    if not as_json:
        Console(highlight=False).print(table)
    if not any(each.live for each in found):
        raise typer.Exit(UNREACHABLE)
    if not all(each.ready for each in found):
        raise typer.Exit(FAILED)


def voice() -> Any:
    """Return one second at 16 kHz of a voice that says "ee" four times: it passes for speech, so that every model works."""
    time, pitch = np.arange(16_000) / 16_000, 160.0
    sound = np.zeros(16_000)
    for frequency in np.arange(pitch, 4000.0, pitch):
        formants = ((300.0, 60.0), (2200.0, 120.0), (3000.0, 150.0))
        loudness = sum(1 / (1 + ((frequency - middle) / width) ** 2) for middle, width in formants)
        sound += loudness / frequency * np.sin(2 * np.pi * frequency * time)
    sound *= np.sin(4 * np.pi * time) ** 2
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def _yes(value: bool) -> str:
    return "[green]yes[/]" if value else "[red]no[/]"
