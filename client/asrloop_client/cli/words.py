"""Options about language, words and speakers, and what they mean; some are shared by `transcribe` and `stream`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[
    str | None,
    typer.Option(help="Recognizer to ask, such as whisper. Default: the server's default.", show_default=False),
]
Language = Annotated[
    str | None,
    typer.Option(
        help="ISO 639-1 code of what is spoken, such as de. Default: what the model finds.", show_default=False
    ),
]
Prompt = Annotated[
    str | None, typer.Option(help="Text that came before, for models that take one.", show_default=False)
]
KeyTerms = Annotated[
    str | None,
    typer.Option(help="Names and words to expect: a file with one a line, or a list such as 'Szczecin,Ada Byron'."),
]
Boost = Annotated[
    float | None,
    typer.Option("--key-terms-boost", help="How strongly they are expected, 0..10; else the server decides."),
]

Diarize = Annotated[
    bool, typer.Option("--diarize", help="Tell who spoke, by the voices; txt, srt and vtt name the speakers.")
]
DiarizeChannels = Annotated[
    bool, typer.Option("--diarize-channels", help="Tell who spoke: each channel of a file is a speaker.")
]
Speakers = Annotated[
    int | None,
    typer.Option(help="With --diarize: most speakers that there are, 1..50.", min=1, show_default=False),
]


def way_to_diarize(voices: bool, channels: bool, speakers: int | None) -> Literal["channels"] | bool:
    """Return `diarize` of a call. Raises BadParameter."""
    if voices and channels:
        raise typer.BadParameter("give one of --diarize and --diarize-channels")
    if speakers is not None and not voices:
        raise typer.BadParameter("--speakers is given without --diarize: give both")
    return "channels" if channels else voices


def terms_of(given: str | None) -> list[str]:
    """Return the terms of a file or a list. Raises BadParameter."""
    if given is None:
        return []
    path = Path(given)
    is_file = len(given) < 1000 and path.is_file()  # a longer name is an error of its own
    if not is_file and path.suffix == ".txt":
        raise typer.BadParameter(f"--key-terms: there is no file {given}")
    try:
        parts = path.read_text(encoding="utf-8-sig").splitlines() if is_file else given.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--key-terms: {given} cannot be read: {error}; give UTF-8 text") from None
    terms = [part.strip() for part in parts if part.strip()]
    if not terms:
        raise typer.BadParameter(f"--key-terms: {given!r} has no term; give one a line, or a list with commas")
    return terms
