"""Write docs/licences.md: the packages of an installation and their licences. `--check` only compares."""

import json
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Annotated

import typer

from asrloop.wheels import MOONSHINE_TINY_EN, SILERO_VAD, SMART_TURN, TRITONSERVER, WHISPER_TINY_EN

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
OURS = ("asrloop", "asrloop-client", "asrloop-gateway")
NOT_SHIPPED = ("pip", "setuptools")
PERMISSIVE = ("Apache", "BSD", "ISC", "MIT", "PSF")
LOOKED_AT = {"soxr": "LGPL-2.1-or-later: used as it comes, as a library that whoever installs it can replace"}
"""Packages under other licences, and why they may be used."""

FETCHED = {
    TRITONSERVER: "NVIDIA Triton Inference Server, run by `asrloop serve` where none is on PATH",
    MOONSHINE_TINY_EN: "the weights of Moonshine tiny-en, speech for a first try, networks that tell speakers apart (below)",
    SILERO_VAD: "the speech detector",
    SMART_TURN: "Daily's Smart Turn, the turn detector; nothing else of the package is used",
    WHISPER_TINY_EN: "the weights of OpenAI's Whisper tiny.en, for `asrloop models --family whisper`",
}


FFMPEG = (
    "- av's wheel brings FFmpeg 8.1 as shared libraries beside it. They say of themselves `LGPL version 3 or later`",
    "  (`av._core.library_meta`). But libavcodec is linked to libx264 and libx265 (GPL-2.0-or-later), which encode video and are",
    "  in the same wheel: who passes the wheel on, in an image for instance, must keep to the GPL for it. asrloop calls",
    "  no encoder, loads FFmpeg only into a process of its own (`asrloop/audio/ffmpeg_worker.py`), and works without it:",
    "  leave `av` out, and the files that FFmpeg reads are refused (docs/files.md). The wheel carries no source: that is at",
    "  github.com/PyAV-Org/pyav-ffmpeg.",
)
"""Of the package av, whose own licence is BSD-3-Clause."""


PYANNOTE = (
    "- pyannote's speaker-diarization-community-1 (CC BY 4.0, huggingface.co/pyannote/speaker-diarization-community-1): its",
    "  segmentation and speaker embedding lie in the library of moonshine-voice. `asrloop models` takes them out and makes",
    "  integers of their recurrent layers and convolutions. Who passes them on names pyannote, the licence, and the change.",
)
"""Networks in the wheel of Moonshine."""


class NotAllowed(ValueError):
    """A package whose licence has not been reviewed."""


def installed(python: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and licence of the packages of that Python, without our own."""
    command = [sys.executable, "-m", "piplicenses", f"--python={python}", "--from=mixed", "--format=json"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout
    for package in json.loads(listed):
        name, licence = package["Name"], package["License"]
        if name in OURS or name in NOT_SHIPPED:
            continue
        if name not in LOOKED_AT and not any(known in licence for known in PERMISSIVE):
            raise NotAllowed(f"{name}: {licence}: review it, then add it to LOOKED_AT in {Path(__file__).name}")
        yield name, package["Version"], licence


def fetched() -> Iterator[tuple[str, str, str, str]]:
    """Yield name, version, licence and use of the wheels that `asrloop models` and `asrloop serve` unpack."""
    for wheel, use in FETCHED.items():
        (metadata,) = wheel.fetch(ROOT / ".cache").glob("*.dist-info/METADATA")
        yield wheel.name, wheel.version, _licence(message_from_string(metadata.read_text(encoding="utf-8"))), use


def _licence(metadata: Message) -> str:
    classified = [
        value.split(" :: ")[-1] for value in metadata.get_all("Classifier", []) if value.startswith("License")
    ]
    return str(metadata["License-Expression"] or metadata["License"] or ", ".join(classified))


def page(python: Path) -> str:
    """Return the text of docs/licences.md."""

    def lines() -> Iterator[str]:
        yield "# Licences of what is shipped\n"
        yield "Written by `make licences` from an environment that has the wheels and nothing else, by constraints.txt,"
        yield "and checked by `make test-release`. asrloop itself is Apache-2.0. Wheels hold their licences' texts.\n"
        yield "| package | version | licence |\n| --- | --- | --- |"
        for row in packages:
            yield f"| {' | '.join(row)} |"
        yield "\nFetched from the package index, pinned by sha256 (`asrloop/wheels.py`), and unpacked:\n"
        yield "| wheel | version | licence | what of it is used |\n| --- | --- | --- | --- |"
        for fetched_row in fetched():
            yield f"| {' | '.join(fetched_row)} |"
        yield "\nNot only permissive:\n"
        yield from (f"- {name}: {LOOKED_AT[name]}." for name, _, _ in packages if name in LOOKED_AT)
        yield "- soundfile's wheel brings libsndfile (LGPL-2.1-or-later) as a shared library beside it."
        yield from FFMPEG
        yield from PYANNOTE

    packages = sorted(installed(python), key=lambda row: row[0].lower())
    return "\n".join(lines()) + "\n"


def main(
    python: Annotated[Path, typer.Argument(help="Python of an environment that has the wheels and nothing else.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether the page is up to date.")] = False,
) -> None:
    """Write docs/licences.md."""
    text = page(python)
    if check and not (PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text):
        typer.echo(f"error: docs/{PAGE.name} is not what is installed; run `make licences`", err=True)
        raise typer.Exit(1)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
