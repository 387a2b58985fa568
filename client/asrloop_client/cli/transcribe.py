"""`asr-client transcribe`."""

from __future__ import annotations

import dataclasses
import enum
import glob
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from asrloop_client.audio import SUFFIXES
from asrloop_client.cli.connection import CONSOLE, FAILED, UNREACHABLE, Connect
from asrloop_client.cli.words import (
    Boost,
    Diarize,
    DiarizeChannels,
    KeyTerms,
    Language,
    Model,
    Prompt,
    Speakers,
    terms_of,
    way_to_diarize,
)
from asrloop_client.errors import AsrError, ServerGone
from asrloop_client.settings import PoolConfig
from asrloop_client.transcript import LINE_WIDTH, Transcript

_NAMED = 5
"""Files that are named in the summary, of those that were passed over."""


class Form(enum.StrEnum):
    """Output format of a transcript."""

    TXT = "txt"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


class Task(enum.StrEnum):
    """What becomes of the speech: text in its language, or in English."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


def transcribe(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Audio files, directories, patterns such as 'a/*.wav', or - for standard input.", show_default=False
        ),
    ],
    connection: Connect,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    form: Annotated[Form, typer.Option("--format", help="Output format.")] = Form.TXT,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write a file for each input below this directory, by its path; skip those that exist.",
            file_okay=False,
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Files at the same time.", min=1)] = 8,
    timeout: Annotated[float, typer.Option(help="Deadline of each file, in seconds.", min=0.001)] = 600.0,
    pooling: Annotated[bool, typer.Option(help="Keep channels; --no-pooling opens one per file.")] = True,
    word_times: Annotated[
        bool | None,
        typer.Option(
            help="Ask when each word was said and how sure it is. Default: for srt and vtt, where the server tells it.",
            show_default=False,
        ),
    ] = None,
    diarize: Diarize = False,
    diarize_channels: DiarizeChannels = False,
    speakers: Speakers = None,
    model: Model = None,
    language: Language = None,
    task: Annotated[
        Task | None, typer.Option(help="Translate into English, where the model can.", show_default=False)
    ] = None,
    prompt: Prompt = None,
    key_terms: KeyTerms = None,
    key_terms_boost: Boost = None,
    max_line_width: Annotated[
        int, typer.Option(help="Most columns of a line of subtitles; Chinese characters take two.", min=1)
    ] = LINE_WIDTH,
) -> None:
    """Print or write the text of each file; errors and a summary go to standard error."""
    form = Form.JSON if as_json else form
    subtitles = form in (Form.SRT, Form.VTT)
    files, passed_over = _expand(paths)
    if subtitles and len(files) > 1 and output_dir is None:
        raise typer.BadParameter(f"{len(files)} files as {form.value} in one output: give --output-dir")
    terms, way = terms_of(key_terms), way_to_diarize(diarize, diarize_channels, speakers)
    targets = _targets(files, output_dir, form) if output_dir is not None else {}
    wanted = [file for file in files if file not in targets or not targets[file].exists()]
    channels = min(concurrency, len(wanted)) or 1
    pool = PoolConfig(min_channels=min(channels, PoolConfig.min_channels), max_channels=channels)
    failures: list[AsrError] = []
    audio_seconds, started = 0.0, time.monotonic()
    if wanted:
        bar = Progress(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)
        row = bar.add_task("transcribing", total=len(wanted))
        shares: dict[str, float] = {}
        """Share of each file that is done, 0..1."""

        def heard(name: str, share: float) -> None:
            shares[name] = share
            bar.update(row, completed=sum(shares.values()))

        with bar, connection(timeout=timeout, pooling=pooling, pool=pool) as client:
            options: dict[str, Any] = {
                "concurrency": concurrency,
                "on_progress": lambda far: heard(far.request_id, far.done / far.known),
                "model": model,
                "language": language,
                "task": task and task.value,
                "prompt": prompt,
                "word_times": None if word_times is None and subtitles else bool(word_times),
                "diarize": way,
                "speakers": speakers,
                "key_terms": terms,
                "key_terms_boost": key_terms_boost,
            }
            results: Iterable[tuple[Any, Any]]
            if output_dir is None:
                results = zip(wanted, client.transcribe_many(wanted, return_errors=True, **options), strict=True)
            else:  # each as soon as it is done: what is written stays when this process is killed
                results = (
                    (each.audio, each.error or each.transcript) for each in client.as_completed(wanted, **options)
                )
            for file, result in results:
                if isinstance(result, Transcript):
                    heard(result.request_id, 1)
                    audio_seconds += result.duration or 0.0
                    if not result.complete:
                        CONSOLE.print(
                            f"{file}: words may be missing: it is cut short, or a limit ended it",
                            style="yellow",
                            markup=False,
                        )
                    _write(file, _text(file, result, form, max_line_width), form, targets.get(file), len(files) == 1)
                else:
                    heard(file, 1)
                    failures.append(result)
                    if form is Form.JSON and output_dir is None:
                        typer.echo(json.dumps({"file": file, "error": type(result).__name__, "message": str(result)}))
                    CONSOLE.print(f"error: {file}: {result}", style="red", markup=False)
    took = time.monotonic() - started
    factor = f", real-time factor {took / audio_seconds:.3f}" if audio_seconds else ""
    CONSOLE.print(
        f"{len(wanted) - len(failures)} transcribed, {len(failures)} failed, {len(files) - len(wanted)} skipped; "
        f"{audio_seconds:.1f} s of audio in {took:.1f} s{factor}",
        style="dim",
    )
    passed_over = [each for each in passed_over if not _is_below(each, output_dir)]
    if passed_over:
        more = f" and {len(passed_over) - _NAMED} more" if len(passed_over) > _NAMED else ""
        CONSOLE.print(
            f"{len(passed_over)} passed over, by their endings: {', '.join(passed_over[:_NAMED])}{more}. "
            f"Taken from directories: {' '.join(SUFFIXES)}; to send others, name them.",
            style="yellow",
            markup=False,
        )
    if failures:
        raise typer.Exit(UNREACHABLE if all(isinstance(each, ServerGone) for each in failures) else FAILED)


def _expand(paths: list[str]) -> tuple[list[str], list[str]]:
    """Return every file once, in order: those with known endings in directories, and those that match patterns.

    The second list has the other files of those directories.
    """
    found: list[str] = []
    others: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            inside = sorted(str(each) for each in Path(path).rglob("*") if each.is_file())
            matches = [each for each in inside if Path(each).suffix.lower() in SUFFIXES]
            others += [each for each in inside if Path(each).suffix.lower() not in SUFFIXES]
        elif path != "-" and not Path(path).exists() and glob.has_magic(path):
            matches = sorted(filter(os.path.isfile, glob.iglob(path, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute one
        else:
            matches = [path]
        if not matches:
            raise typer.BadParameter(f"{path}: no audio file there; give files that end in {', '.join(SUFFIXES)}")
        found += matches
    return list(dict.fromkeys(found)), [each for each in dict.fromkeys(others) if each not in found]


def _is_below(file: str, directory: Path | None) -> bool:
    return directory is not None and Path(file).resolve().is_relative_to(directory.resolve())


def _targets(files: list[str], directory: Path, form: Form) -> dict[str, Path]:
    """Return the file to write for each, the same in every run: its path below the current directory, or else the whole one.

    The new ending replaces that of a known kind, and follows it where another kind of the same name lies beside it.
    """
    targets: dict[str, Path] = {}
    for file in files:
        path = Path(os.path.abspath("stdin" if file == "-" else file))  # noqa: PTH100 - resolve() follows links
        twins = (path.with_suffix(each) for suffix in SUFFIXES for each in (suffix, suffix.upper()))
        whole = path.suffix.lower() not in SUFFIXES or any(twin != path and twin.exists() for twin in twins)
        below = path.relative_to(Path.cwd() if path.is_relative_to(Path.cwd()) else path.anchor)
        targets[file] = directory / below.with_name(f"{path.name if whole else path.stem}.{form.value}")
    return targets


def _text(file: str, result: Transcript, form: Form, max_line_width: int) -> str:
    if form is Form.JSON:
        return json.dumps({"file": file, **dataclasses.asdict(result)}, ensure_ascii=False) + "\n"
    if form is Form.TXT:
        return result.to_txt()
    return result.to_srt(max_line_width) if form is Form.SRT else result.to_vtt(max_line_width)


def _write(file: str, text: str, form: Form, target: Path | None, alone: bool) -> None:
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a file that is there counts as done.
        partial = target.with_name(f"{target.name}.part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    else:
        named = form is Form.TXT and not alone
        typer.echo("".join(f"{file}: {line}" for line in text.splitlines(keepends=True)) if named else text, nl=False)
