"""Fits the calibration from the tokens' probabilities to CONFIDENCE, and checks it on utterances that the fit has not seen."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_expit, logit

from asrloop.config import Settings
from asrloop.engine.family import Word
from asrloop.families.confidence import Calibration
from asrloop.families.confidence import confidence as calibrated
from asrloop_bench import in_process
from asrloop_bench.figures.accuracy import normalised
from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.method import clips, markdown
from asrloop_bench.method.clips import Reference

FOLDS = 10
BINS = (0.0, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)


def confidence(run: Run, manifest: Manifest) -> str:
    """Fit CONFIDENCE and WORD_CONFIDENCES, and check them on clips that the fit has not seen."""
    heard = hear(clips.references(manifest), run.settings)
    words = [word for one in heard for word in one.each_word]
    return "\n".join([*_section("CONFIDENCE", "clips", heard), "", *_section("WORD_CONFIDENCES", "words", words)])


def _section(name: str, what: str, heard: Sequence["Heard"]) -> list[str]:
    fitted = fit(heard)
    return [
        f"{name}: {len(heard)} {what}. Fitted on all of them: offset {fitted.offset}, slope {fitted.slope}. In the table each",
        f"value comes from a fit that did not see its tenth of the {what} ({FOLDS}-fold cross-validation):",
        "",
        *table(heard, unseen(heard), name, what),
    ]


class Heard(NamedTuple):
    """One utterance or word: the log probability of each token, of a word that of the least probable one, and what is right."""

    log_probs: Sequence[float]
    right: int
    words: int
    """Right and wrong ones of the transcript, and the missing."""

    each_word: Sequence["Heard"] = ()
    """Of an utterance: each word of the transcript by itself."""

    @property
    def mean(self) -> float:
        """The geometric mean of the probabilities, below 1."""
        return min(math.exp(math.fsum(self.log_probs) / len(self.log_probs)), 1 - 1e-6)


def hear(references: Sequence[Reference], settings: Settings) -> list[Heard]:
    """Decode all utterances with the engine in this process. Those without a word on either side are left out."""
    import jiwer  # slow to import, and only needed here

    family = in_process.open_family(settings)
    with in_process.engine(family, settings, inbox=len(references)) as engine:
        asked = [in_process.Asked(engine, [one.samples]) for one in references]
        requests = [each.answer() for each in asked]
    heard = []
    for one, request in zip(references, requests, strict=True):
        if request.utterances[0].tokens and normalised(one.text):
            counts = jiwer.process_words(normalised(one.text), normalised(request.transcripts(family)[0].text))
            words = counts.hits + counts.substitutions + counts.deletions + counts.insertions
            log_probs = request.utterances[0].log_probs
            each_word = _each_word(family.words(request.utterances[0].tokens), log_probs, one.text)
            heard.append(Heard(log_probs, counts.hits, words, each_word))
    return heard


def _each_word(words: Sequence[Word], log_probs: Sequence[float], text: str) -> list[Heard]:
    """Return each word that is compared: right where all it is made of is in the reference, in its place."""
    import jiwer

    parts = [normalised(word.text).split() for word in words]
    chunks = jiwer.process_words(normalised(text), " ".join(part for each in parts for part in each)).alignments[0]
    right = {place for one in chunks if one.type == "equal" for place in range(one.hyp_start_idx, one.hyp_end_idx)}
    found, at = [], 0
    for word, part in zip(words, parts, strict=True):
        if part:
            is_right = all(place in right for place in range(at, at + len(part)))
            found.append(Heard([min(log_probs[word.first : word.end])], int(is_right), 1))
        at += len(part)
    return found


def fit(heard: Sequence[Heard]) -> Calibration:
    """Fit the share of right words by logistic regression on the log odds of the mean probability.

    Source: J. Platt, "Probabilistic outputs for support vector machines" (1999); a word is an observation.
    """
    odds = logit([one.mean for one in heard])
    words, right = np.array([one.words for one in heard]), np.array([one.right for one in heard])

    def loss(weights: NDArray[np.float64]) -> float:
        expected = weights[0] + weights[1] * odds
        return -float(right @ log_expit(expected) + (words - right) @ log_expit(-expected))

    return Calibration(*(round(float(weight), 2) for weight in minimize(loss, np.zeros(2)).x))


def unseen(heard: Sequence[Heard]) -> list[float]:
    """Return the confidence of each utterance by a calibration fitted without its tenth of them."""
    folds = [fit([one for at, one in enumerate(heard) if at % FOLDS != fold]) for fold in range(FOLDS)]
    return [calibrated(one.log_probs, folds[at % FOLDS]) for at, one in enumerate(heard)]


def table(
    heard: Sequence[Heard], confidences: Sequence[float], name: str = "CONFIDENCE", what: str = "clips"
) -> list[str]:
    """Return lines of Markdown: promised and right words by confidence, and their mean distance, by words."""
    rows = []
    apart = total = 0.0
    for low, high in pairwise(BINS):
        pairs = zip(heard, confidences, strict=True)
        inside = [(one, sure) for one, sure in pairs if low <= sure < high or sure == high == BINS[-1]]
        if not inside:
            continue
        words = sum(one.words for one, _ in inside)
        promised = sum(one.words * sure for one, sure in inside) / words
        right = sum(one.right for one, _ in inside) / words
        rows.append([f"{low:.2f} to {high:.2f}", len(inside), f"{promised:.2f}", f"{right:.2f}"])
        apart, total = apart + words * abs(promised - right), total + words
    return [
        *markdown.table([name, what, "mean of it, by words", "words right"], rows).splitlines(),
        "",
        f"The two columns are {apart / total:.3f} apart on average, by words (expected calibration error).",
    ]
