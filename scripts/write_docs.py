"""Write what follows in docs/ from code and measurements: help, metrics, settings, capacity, protocol. `--check` only compares."""

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import capacity
import typer
from asrloop_bench.method import markdown
from asrloop_gateway.metrics import Metrics as GatewayMetrics
from asrloop_gateway.settings import Settings as GatewaySettings

from asrloop.engine.family import Batch, Family
from asrloop.engine.metrics import ENGINE_METRICS
from asrloop.engine.parameters import PARAMETERS, Door
from asrloop.errors import ERRORS
from asrloop.live.metrics import LIVE_METRICS

DOCS = Path(__file__).resolve().parents[1] / "docs"
COMMANDS = {"asrloop": "asrloop.cli", "asr-client": "asrloop_client.cli", "asrloop-bench": "asrloop_bench.cli"}


def commands() -> str:
    """docs/cli.md, by typer's own generator."""
    pages = [
        subprocess.run(
            [sys.executable, "-m", "typer", module, "utils", "docs", "--name", name],
            capture_output=True, check=True, text=True, timeout=60,
        ).stdout.replace("\n#", "\n##").replace("# `", "## `", 1)
        for name, module in COMMANDS.items()
    ]  # fmt: skip
    return "\n".join(["# The commands\n\nWritten by `make docs` from the commands' own help.\n", *pages])


def metrics() -> str:
    """docs/metrics.md."""

    def lines() -> Iterator[str]:
        yield "# Metrics and errors\n"
        yield "Written by `make docs` from `asrloop/engine/metrics.py`, `asrloop/live/metrics.py` and `asrloop/errors.py`."
        yield "Triton serves them with its"
        yield "own on `/metrics`. Names do not change.\n"
        yield "| metric | kind | what |\n| --- | --- | --- |"
        for spec in (*ENGINE_METRICS, *LIVE_METRICS):
            label = "{outcome}" if spec.outcomes else ""
            buckets = f"; buckets {', '.join(f'{bound:g}' for bound in spec.buckets)}" if spec.buckets else ""
            yield f"| `{spec.name}{label}` | {spec.kind} | {spec.description}{buckets} |"
        yield "\nThe label `outcome` is `ok` or that of the error. A message begins with the error's code in brackets; in front of"
        yield "it Triton itself may say which step of an ensemble it comes from.\n"
        yield "| code | outcome | Triton's code | when |\n| --- | --- | --- | --- |"
        for error in ERRORS:
            when = (error.__doc__ or "").split(";")[0].rstrip(".")
            yield f"| `[{error.code}]` | `{error.outcome}` | {error.triton_code} | {when} |"

        yield "\nThe gateway has these on its own `/metrics`:\n"
        yield "| metric | kind | what |\n| --- | --- | --- |"
        for found in GatewayMetrics().registry.collect():
            name = found.name + ("_total" if found.type == "counter" else "")
            yield f"| `{name}` | {found.type} | {found.documentation} |"

    return "\n".join(lines()) + "\n"


def options() -> str:
    """Return docs/options.md."""

    def lines() -> Iterator[str]:
        yield "# Request parameters\n"
        yield "Written by `make docs` from `asrloop/engine/parameters.py`. An unknown parameter, and a value that the served"
        yield "model cannot honour, are refused with `[invalid_option]`. Parameters that Triton reserves, and headers that it"
        yield "forwards, pass.\n"
        yield "| parameter | type | files, PCM | stream: START | stream: chunk | meaning |\n| --- | --- | --- | --- | --- | --- |"
        for name, parameter in PARAMETERS.items():
            doors = " | ".join("yes" if door in parameter.doors else "" for door in Door)
            yield f"| `{name}` | {parameter.kind_name} | {doors} | {parameter.meaning} |"

    return "\n".join(lines()) + "\n"


def gateway() -> str:
    """docs/gateway.md with the table of its settings."""
    lines = ["| name | default | what |", "| --- | --- | --- |"]
    for name, field in GatewaySettings.model_fields.items():
        default = "" if field.default in (None, "", ()) else f"`{field.default}`"
        lines.append(f"| `{name}` | {default} | {field.description} |".replace("\n", " "))
    return markdown.replaced((DOCS / "gateway.md").read_text(encoding="utf-8"), "\n".join(lines), "limits")


def operations() -> str:
    """docs/operations.md, of which only the section on capacity is written here."""
    return markdown.replaced((DOCS / "operations.md").read_text(encoding="utf-8"), capacity.section(), "capacity")


def adding_a_family() -> str:
    """docs/adding-a-family.md with the protocol's methods."""

    def lines() -> Iterator[str]:
        yield textwrap.fill(" ".join(_prose(Family).partition("\n\n")[2].split()), 150) + "\n"
        for name, method in {**vars(Family), **vars(Batch)}.items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            signature = inspect.signature(method)
            named = [one.replace(annotation=one.empty) for one in list(signature.parameters.values())[1:]]
            text = f"- `{name}{inspect.Signature(named)}`: {' '.join(_prose(method).split())}"
            yield textwrap.fill(text, 150, subsequent_indent="  ", break_on_hyphens=False)

    page = (DOCS / "adding-a-family.md").read_text(encoding="utf-8")
    return markdown.replaced(page, "\n".join(lines()), "protocol")


def _prose(documented: object) -> str:
    """Return a docstring as Markdown."""
    return (inspect.getdoc(documented) or "").replace("``", "`")


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands,
    "metrics.md": metrics,
    "options.md": options,
    "gateway.md": gateway,
    "operations.md": operations,
    "adding-a-family.md": adding_a_family,
}


def main(check: Annotated[bool, typer.Option("--check", help="Only say whether they are up to date.")] = False) -> None:
    """Write docs/cli.md and docs/metrics.md, and one section each in docs/gateway.md, operations.md and adding-a-family.md."""
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if str(DOCS.parent) in text:
            raise ValueError(
                f"docs/{name} would name this machine's folder {DOCS.parent}; hide the default of that option"
            )
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            typer.echo(f"error: docs/{name} is not what the code says; run `make docs`", err=True)
            raise typer.Exit(1)
        path.write_text(text, encoding="utf-8")
        typer.echo(f"Written: docs/{name}")


if __name__ == "__main__":
    typer.run(main)
