"""Word error rate of a server over a manifest, with the normalisation named."""

import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, NamedTuple

import typer
from asrloop_client import AsrClient

from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.method import clips, target

CALLERS = 16
NORMALISATION = "lower case; hyphens and dashes to spaces; apostrophes and all other punctuation dropped; nothing else"


def wer(
    run: Run,
    manifest: Manifest,
    running: Annotated[
        bool, typer.Option("--running", help="Ask the server on config.yaml's ports instead of starting one.")
    ] = False,
    model: Annotated[str, typer.Option(help="Recognizer beside the default, such as whisper.")] = "",
) -> str:
    """Measure the word error rate through the server."""
    references = clips.references(manifest)
    with (
        nullcontext(target.running(run.settings)) if running else run.server() as server,
        AsrClient(server.grpc) as client,
    ):
        started = time.monotonic()
        paths = [one.audio for one in references]
        heard = [one.text for one in client.transcribe_many(paths, concurrency=CALLERS, model=model)]
        took = time.monotonic() - started
    errors = word_errors([one.text for one in references], heard)
    return (
        f"WER {errors.rate:.2%} over {len(references)} utterances, {errors.words} words\n"
        f"{errors.substitutions} substitutions, {errors.deletions} deletions, {errors.insertions} insertions; {took:.1f} s\n"
        f"Normalisation of both sides: {NORMALISATION}."
    )


class WordErrors(NamedTuple):
    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        return (self.substitutions + self.deletions + self.insertions) / self.words


def normalised(text: str) -> str:
    """Return ``text`` as it is compared; see NORMALISATION."""
    spaced = re.sub(r"[-\u2010-\u2015/]", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]", "", spaced).split())


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """Align each pair after normalisation; references without a word are left out."""
    import jiwer  # slow to import, and only needed here

    pairs = zip(map(normalised, references), map(normalised, hypotheses), strict=True)
    spoken = [pair for pair in pairs if pair[0]]
    if not spoken:
        raise ValueError("no reference has a word; nothing to compare")
    result = jiwer.process_words([reference for reference, _ in spoken], [heard for _, heard in spoken])
    words = result.hits + result.substitutions + result.deletions
    return WordErrors(words, result.substitutions, result.deletions, result.insertions)
