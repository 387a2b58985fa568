"""`asr-client stream`."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import signal
import threading
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from asrloop_client.cli.connection import CONSOLE, Connect, exit_of
from asrloop_client.cli.words import Boost, KeyTerms, Language, Model, Prompt, terms_of
from asrloop_client.errors import AsrError
from asrloop_client.live.events import StreamEvent
from asrloop_client.live.sources import played, recorded
from asrloop_client.spacing import joined

_PAUSE = " …"


class Form(enum.StrEnum):
    """Output: the text of each segment, or every event."""

    TXT = "txt"
    JSON = "json"


class Turn(enum.StrEnum):
    """What ends a segment."""

    SILENCE = "silence"
    SEMANTIC = "semantic"
    NONE = "none"


def stream(
    audio: Annotated[
        str,
        typer.Argument(
            help="An audio file, which is played, or - for raw 16-bit mono PCM on standard input.", show_default=False
        ),
    ],
    connection: Connect,
    form: Annotated[Form, typer.Option("--format", help="Output format.")] = Form.TXT,
    rate: Annotated[int, typer.Option(help="Sample rate of standard input, in Hz.", min=1)] = 16000,
    speed: Annotated[float, typer.Option(help="Play a file this many times faster than it sounds.", min=0.01)] = 1.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds to find a server, and to wait for the last words.", min=0.001)
    ] = 60.0,
    resume: Annotated[bool, typer.Option(help="Open another stream when the server is lost.")] = True,
    word_times: Annotated[
        bool, typer.Option("--word-times", help="Ask when each word was said and how sure it is; for the format json.")
    ] = False,
    turn: Annotated[
        Turn | None,
        typer.Option(
            help="What ends a segment: silence, semantic (a model listens whether the speaker is done), or none, only the "
            "audio's end.",
            show_default=False,
        ),
    ] = None,
    silence_ms: Annotated[
        int | None,
        typer.Option(help="Milliseconds of the pause that ends a segment, 100..10000.", show_default=False),
    ] = None,
    turn_threshold: Annotated[
        float | None,
        typer.Option(
            help="With --turn semantic: least probability that the speaker is done, 0..1; else 0.5.", show_default=False
        ),
    ] = None,
    longest_pause_ms: Annotated[
        int | None,
        typer.Option(
            help="With --turn semantic: milliseconds of the pause that ends any segment, 500..30000; else 4000.",
            show_default=False,
        ),
    ] = None,
    speech_threshold: Annotated[
        float | None,
        typer.Option(help="Least probability of speech, 0..1; else 0.6.", show_default=False),
    ] = None,
    padding_ms: Annotated[
        int | None,
        typer.Option(
            help="Milliseconds of audio before speech that belong to a segment, 0..2000; else 320.", show_default=False
        ),
    ] = None,
    model: Model = None,
    language: Language = None,
    prompt: Prompt = None,
    key_terms: KeyTerms = None,
    key_terms_boost: Boost = None,
) -> None:
    """Print the words of live audio while they are spoken, a line for each segment.

    A terminal shows the open segment below, dim where it may still change, with … in a pause. Ctrl-C ends the audio and waits
    for the last words.

    arecord -f S16_LE -r 16000 -t raw | asr-client stream -
    """
    asked: Any = {
        "model": model,
        "language": language,
        "prompt": prompt,
        "word_times": word_times,
        "turn_detection": None if turn is None else turn.value,
        "silence_ms": silence_ms,
        "turn_threshold": turn_threshold,
        "longest_pause_ms": longest_pause_ms,
        "speech_threshold": speech_threshold,
        "padding_ms": padding_ms,
        "key_terms": terms_of(key_terms),
        "key_terms_boost": key_terms_boost,
    }
    stop, out = threading.Event(), Console(highlight=False, soft_wrap=True)
    view = Live(console=out, transient=True, auto_refresh=False) if out.is_terminal and form is Form.TXT else None

    def end_audio(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        source: Any
        rate, source = (rate, recorded(rate, stop)) if audio == "-" else played(audio, speed, stop, _warn)
        with connection(timeout=timeout) as client, view or contextlib.nullcontext():
            before = signal.signal(signal.SIGINT, end_audio)
            try:
                with client.stream(source, sample_rate=rate, resume=resume, **asked) as events:
                    for event in events:
                        if form is Form.JSON:
                            typer.echo(json.dumps(dataclasses.asdict(event), ensure_ascii=False))
                        elif event.final and event.stable:
                            out.print(event.stable, markup=False)
                        if view is not None:
                            view.update(open_text(event), refresh=True)
            finally:
                signal.signal(signal.SIGINT, before)
    except AsrError as error:
        raise exit_of(error) from None


def open_text(event: StreamEvent) -> Text:
    """Return the text of an open segment, with what may still change dim and … in a pause; nothing for one that is over."""
    if event.final:
        return Text()
    told = joined((event.stable, event.tail))
    at = len(told) - len(event.tail)
    return Text.assemble(told[:at], (told[at:] + _PAUSE * event.pause, "dim"))


def _warn(text: str) -> None:
    CONSOLE.print(text, style="yellow", markup=False)
