"""Connection options, which all commands share, and the exit codes of errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from asrloop_client.client import AsrClient
from asrloop_client.errors import AsrError, InvalidConfig, ServerGone
from asrloop_client.settings import DEFAULT_SERVER, SERVERS_VARIABLE, TOKEN_HEADER, TOKEN_VARIABLE
from asrloop_client.tls import TlsConfig

FAILED, UNREACHABLE = 1, 3

Connect = Callable[..., AsrClient]
CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)


def connect(
    servers: Annotated[
        list[str],
        typer.Option(
            "--server", "-s", help="gRPC address host:port, or several, separated by commas.", envvar=SERVERS_VARIABLE
        ),
    ] = [DEFAULT_SERVER],  # noqa: B006 - nothing changes it
    token: Annotated[str | None, typer.Option(help="Token that the server asks for.", envvar=TOKEN_VARIABLE)] = None,
    token_header: Annotated[str, typer.Option(help="Header that carries the token.")] = TOKEN_HEADER,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS; implied by the three options below.")] = False,
    root_certificates: Annotated[
        Path | None, typer.Option(help="PEM file with the certificates that sign the server's.")
    ] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file with the client's key, for mutual TLS.")] = None,
    certificate_chain: Annotated[
        Path | None, typer.Option(help="PEM file with the client's certificate, for mutual TLS.")
    ] = None,
    server_timeout: Annotated[
        float | None,
        typer.Option(help="Give up when no server could take a call for so many seconds; without it wait.", min=0.001),
    ] = None,
    **settings: Any,
) -> AsrClient:
    """Return a client; the parameters are the connection options, `settings` are a command's own."""
    try:
        files = TlsConfig(
            root_certificates=root_certificates, private_key=private_key, certificate_chain=certificate_chain
        )
        wanted = files if tls or files != TlsConfig() else None
        return AsrClient(
            servers, tls=wanted, token=token, token_header=token_header, server_timeout=server_timeout, **settings
        )
    except AsrError as error:
        raise exit_of(error) from None


def with_connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with the options of `connect` in place of its parameter `connection`, which gets them filled in."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(connect, eval_str=True).parameters.values()
    options = [each for each in shared if each.kind is not each.VAR_KEYWORD]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        values = {each.name: given.pop(each.name) for each in options}
        command(connection=functools.partial(connect, **values), **given)

    parameters = [
        parameter
        for each in own.parameters.values()
        for parameter in (options if each.name == "connection" else [each])
    ]
    # Typer reads the command line from it.
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def exit_of(error: AsrError) -> typer.Exit | typer.BadParameter:
    """Print the error and return the exception that ends the command with its exit code."""
    if isinstance(error, InvalidConfig):
        return typer.BadParameter(str(error))
    CONSOLE.print(f"error: {error}", style="red", markup=False)
    return typer.Exit(UNREACHABLE if isinstance(error, ServerGone) else FAILED)
