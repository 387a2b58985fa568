"""The one shape of a figure: a function that measures, the section of the page that it writes, and its command."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from asrloop_client import AsrError

from asrloop import config
from asrloop.audio import Samples
from asrloop.cli import one_line_errors
from asrloop_bench.checkout import ROOT
from asrloop_bench.ladder.peers import PeerError
from asrloop_bench.load.generators import LoadError
from asrloop_bench.method import clips, machine_load, markdown, provenance, target
from asrloop_bench.method.clips import LINE
from asrloop_bench.terminal import console

Manifest = Annotated[Path, typer.Option(help=f"JSON lines: {LINE}; paths are relative to the file.")]


class Run:
    """One run of a figure."""

    def __init__(self) -> None:
        self.settings = config.load()
        self.about = provenance.describe(self.settings, load_before=machine_load.sample())
        self._began = machine_load.now()

    def server(self, *more_repositories: Path) -> AbstractContextManager[target.Target]:
        """Start a server of the project's models, and of others beside them."""
        return target.started(self.settings, more_repositories=more_repositories)

    def step(self, name: str) -> None:
        console.print(f"{name} ...", style="dim", markup=False)

    def provenance(self) -> str:
        during = machine_load.between(self._began, machine_load.now())
        return f"Measured by `{provenance.command(self.about)}` on {provenance.in_full(self.about, [during])}."


def speech(*lengths: float) -> dict[float, Samples]:
    """Return a clip f32 [N], 16 kHz, of each length in seconds, cut from the speech of the model's wheel."""
    recordings = clips.speech_files()
    return {seconds: clips.cut(recordings, seconds, 1)[0].samples for seconds in lengths}


class Figure(NamedTuple):
    """A command that measures.

    ``measure`` takes a Run and the command's options, and returns Markdown; its docstring is the command's help.
    """

    name: str
    measure: Callable[..., str]
    page: str = ""
    """The page that ``--write`` writes, from the root of the checkout. Without one the text is only printed."""
    section: str = markdown.RESULTS

    def command(self) -> Callable[..., None]:

        def command(write: bool = False, **options: Any) -> None:
            with one_line_errors(AsrError, LoadError, PeerError):
                run = Run()
                text = self.measure(run, **options)
                if self.page:
                    text = f"{text}\n\n{run.provenance()}"
                console.print(text, markup=False)
                if write:
                    markdown.write(ROOT / self.page, text, self.section)
                    console.print(f"Written: {self.page}")

        own = inspect.signature(self.measure, eval_str=True)
        options = list(own.parameters.values())[1:]
        if self.page:
            flag = Annotated[bool, typer.Option("--write", help=f"Also write the section of {self.page}.")]
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            options.append(inspect.Parameter("write", kind, default=False, annotation=flag))
        command.__signature__ = own.replace(parameters=options, return_annotation=None)  # type: ignore[attr-defined]
        command.__annotations__ = {option.name: option.annotation for option in options}
        command.__doc__ = self.measure.__doc__
        return command
