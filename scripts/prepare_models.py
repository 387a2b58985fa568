"""Make the encoder and the decoder of the model repository: Moonshine tiny-en of the package index, or a model of your own."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from asrloop.export import nemo
from asrloop.export.build import build
from asrloop.export.precision import DEFAULT, PRECISIONS
from asrloop.export.triton_config import write_config
from asrloop.wheels import MOONSHINE_TINY_EN, WheelError

ROOT = Path(__file__).resolve().parents[1]


class FamilyName(StrEnum):
    """Known model families."""

    MOONSHINE = "moonshine"
    NEMO = "nemo"


def main(
    family: Annotated[
        FamilyName, typer.Option(help="moonshine, or nemo for a Parakeet directory.")
    ] = FamilyName.MOONSHINE,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Directory with the model. [default: Moonshine tiny-en of the package index]"),
    ] = None,
    model_repository: Annotated[
        Path, typer.Option(help="Model repository to complete.", show_default="model_repository")
    ] = ROOT / "model_repository",
    precision: Annotated[
        str | None,
        typer.Option(
            help="; ".join(f"{name}: {what}" for name, what in PRECISIONS.items()) + f". [default: {DEFAULT}]"
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Make the models again even when they are there.")] = False,
) -> None:
    """Make the encoder and decoder of a model repository."""
    console = Console(stderr=True, highlight=False)
    missing = [name for name in ("encoder", "decoder") if not (model_repository / name / "1" / "model.onnx").is_file()]
    missing += [] if (model_repository / "decoder" / "1" / "family.json").is_file() else ["family.json"]
    if not missing and source is None and precision is None and not force:
        console.print(f"Models are ready in {model_repository} (--force makes them again).", soft_wrap=True)
        return
    started = time.monotonic()
    try:
        if family is FamilyName.NEMO:
            if source is None:
                raise ValueError(
                    "--family nemo needs --from DIR, a directory with encoder-model.onnx and decoder_joint-model.onnx"
                )
            nemo.build(source, model_repository)
        else:
            weights = source or MOONSHINE_TINY_EN.fetch(ROOT / ".cache") / "moonshine_voice" / "assets" / "tiny-en"
            build(
                weights,
                model_repository,
                precision=precision or DEFAULT,
                progress=lambda stage: console.print(f"  {stage}"),
            )
        for name in ("encoder", "decoder"):
            write_config(model_repository / name)
    except (WheelError, OSError, ValueError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(f"Models are ready in {model_repository} ({time.monotonic() - started:.1f} s).", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
