"""`asr-client models`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from asrloop_client.cli.connection import Connect, exit_of
from asrloop_client.errors import AsrError


def models(
    connection: Connect,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list of objects.")] = False,
) -> None:
    """Name the recognizers that --model takes, with family and languages, one a line; the default is called default."""
    with connection(prewarm=False) as client:
        try:
            found = {name: client.described(name) for name in client.recognizers()}
        except AsrError as error:
            raise exit_of(error) from None
    if as_json:
        typer.echo(json.dumps([{"model": name, **each._asdict()} for name, each in found.items()]))
        return
    for name, each in found.items():
        typer.echo(", ".join([f"{name or 'default'}: {each.family or 'unknown'}", " ".join(each.languages)]))
