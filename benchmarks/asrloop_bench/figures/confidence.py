"""Fits what turns the tokens' probabilities into CONFIDENCE, and checks it on utterances that the fit has not seen."""

import math
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np

from asrloop import audio
from asrloop.config import Settings
from asrloop.engine.engine import Engine
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.families import registry
from asrloop.families.confidence import Calibration, confidence
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.accuracy import Reference, normalised

FOLDS = 10
BINS = (0.0, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
LIMIT_SECONDS = 600.0


class Heard(NamedTuple):
    """One utterance: how sure the decoder was of each token, and how many words it got right."""

    log_probs: Sequence[float]
    right: int
    words: int
    """Right and wrong ones of the transcript, and the missing."""


def hear(references: Sequence[Reference], settings: Settings) -> list[Heard]:
    """Decode all utterances with the engine in this process. Those without a word on either side are left out."""
    family = registry.open_family(PREPARED, settings)
    engine = Engine(family, Scheduler(settings.engine.slots, len(references), LIMIT_SECONDS))
    ended = threading.Semaphore(0)
    requests = []
    for one in references:
        samples = audio.from_file(one.audio.read_bytes(), settings.audio.max_seconds)
        requests.append(Request([samples], on_done=lambda _: ended.release()))
        engine.submit(requests[-1])
    if not all(ended.acquire(timeout=LIMIT_SECONDS) for _ in requests):
        raise TimeoutError(f"not decoded after {LIMIT_SECONDS:g} s")
    engine.close()
    return [
        _counted(request.utterances[0].log_probs, one.text, request.transcripts(family)[0].text)
        for one, request in zip(references, requests, strict=True)
        if request.utterances[0].tokens and normalised(one.text)
    ]


def _counted(log_probs: Sequence[float], reference: str, text: str) -> Heard:
    counts = jiwer.process_words(normalised(reference), normalised(text))
    return Heard(log_probs, counts.hits, counts.hits + counts.substitutions + counts.deletions + counts.insertions)


def fit(heard: Sequence[Heard]) -> Calibration:
    """Logistic regression of the share of right words on the log odds of the mean probability, by Newton's method.

    Source: J. Platt, "Probabilistic outputs for support vector machines" (1999); a word is an observation.
    """
    means = np.array([_mean(one) for one in heard])
    inputs = np.column_stack([np.ones(len(heard)), np.log(means / (1 - means))])
    words, right = np.array([one.words for one in heard]), np.array([one.right for one in heard])
    weights = np.zeros(2)
    for _ in range(50):
        expected = 1 / (1 + np.exp(-inputs @ weights))
        curvature = inputs.T @ (inputs * (words * expected * (1 - expected))[:, None])
        step = np.linalg.solve(curvature, inputs.T @ (right - words * expected))
        weights += step
        if np.abs(step).max() < 1e-9:
            break
    return Calibration(*(round(float(weight), 2) for weight in weights))


def _mean(one: Heard) -> float:
    return min(math.exp(math.fsum(one.log_probs) / len(one.log_probs)), 1 - 1e-6)


def unseen(heard: Sequence[Heard]) -> list[float]:
    """The confidence of each utterance by a calibration fitted without its tenth of them."""
    folds = [fit([one for at, one in enumerate(heard) if at % FOLDS != fold]) for fold in range(FOLDS)]
    return [confidence(one.log_probs, folds[at % FOLDS]) for at, one in enumerate(heard)]


def table(heard: Sequence[Heard], confidences: Sequence[float]) -> list[str]:
    """Markdown: what was promised and what was right, by confidence; and the mean distance of the two, by words."""
    rows = ["| CONFIDENCE | clips | mean of it, by words | words right |", "| --- | --- | --- | --- |"]
    apart = total = 0.0
    for low, high in pairwise(BINS):
        inside = [
            (one, sure)
            for one, sure in zip(heard, confidences, strict=True)
            if low <= sure < high or sure == high == BINS[-1]
        ]
        if not inside:
            continue
        words = sum(one.words for one, _ in inside)
        promised = sum(one.words * sure for one, sure in inside) / words
        right = sum(one.right for one, _ in inside) / words
        rows.append(f"| {low:.2f} to {high:.2f} | {len(inside)} | {promised:.2f} | {right:.2f} |")
        apart, total = apart + words * abs(promised - right), total + words
    return [
        *rows,
        "",
        f"The two columns are {apart / total:.3f} apart on average, by words (expected calibration error).",
    ]


def section(heard: Sequence[Heard], machine: str, manifest: Path) -> str:
    """The part of docs/confidence.md that this writes."""
    fitted = fit(heard)
    return "\n".join(
        [
            f"Written by `asrloop-bench confidence --manifest {manifest.name}`, {len(heard)} clips, {machine}.",
            f"Fitted on all of them: offset {fitted.offset}, slope {fitted.slope}. In the table each clip's value comes from a fit",
            f"that did not see its tenth of the clips ({FOLDS}-fold cross-validation):",
            "",
            *table(heard, unseen(heard)),
        ]
    )
