"""The command `asrloop-gateway`, also available as `asrloop gateway`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def gateway(
    server: Annotated[
        str | None,
        typer.Option(
            help="Triton's gRPC address host:port, or several, separated by commas. Default: localhost:8001.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: 9000.", min=0, max=65535, show_default=False)] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Default: 127.0.0.1. Other addresses require API keys.", show_default=False
        ),
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option(help="File with the accepted API keys, one a line.", show_default=False)
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file with the certificate, for https.", show_default=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with the private key.", show_default=False)] = None,
) -> None:
    """Serve OpenAI's speech API, live audio and a web page in front of Triton until Ctrl-C.

    All other settings are environment variables ASRLOOP_GATEWAY_<NAME>: see docs/gateway.md.
    """
    # Imported late: the other commands of asrloop do not need these.
    from pydantic import ValidationError

    from asrloop_gateway.logs import FewFromOne
    from asrloop_gateway.server import serve
    from asrloop_gateway.settings import Settings, wrong_variables

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(FewFromOne())
    given = {
        "server": server,
        "port": port,
        "host": host,
        "keys_file": keys_file,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
    }
    if wrong := wrong_variables():
        for line in wrong:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(1)
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        for one in error.errors():
            name = ".".join(map(str, one["loc"]))
            setting = f"{name} = {one['input']!r}: " if name else ""
            typer.echo(f"error: {setting}{one['msg'].removeprefix('Value error, ')}", err=True)
        raise typer.Exit(1) from None

    def ready(listening: int) -> None:
        scheme = "http" if settings.tls_certificate is None else "https"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        typer.echo(f"Gateway ready.  page  {scheme}://{host}:{listening}/", err=True)
        typer.echo(f"                API   {scheme}://{host}:{listening}/v1", err=True)
        typer.echo("Ctrl-C stops it.", err=True)

    asyncio.run(serve(settings, ready))
    typer.echo("Stopped.", err=True)


if __name__ == "__main__":
    app()
