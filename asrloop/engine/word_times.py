"""When the tokens of an utterance were spoken: what the family found, laid over the pauses that were heard."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.family import Evidence, Family
from asrloop.engine.utterance import Span, Utterance
from asrloop.speech.alignment import align
from asrloop.speech.silence import STEP_SECONDS

_FRAME_SECONDS = 3 * STEP_SECONDS
"""Of the evidence that is made of a transducer's times."""


def token_spans(utterance: Utterance, family: Family[Any]) -> Sequence[Span]:
    """Return when each token of a finished utterance was spoken. Marks take no time: they belong to the sound before them."""
    if utterance.spans is None:
        utterance.spans = _found(utterance, family)
        utterance.evidence = utterance.quiet = None  # of a recording of hours they would take 100 MB
    return utterance.spans


def _found(utterance: Utterance, family: Family[Any]) -> list[Span]:
    tokens = utterance.tokens
    evidence = utterance.evidence or _of_times(utterance)
    draft = utterance.options.draft
    # What was said before has its part of the audio, and the answer has the rest.
    begin = int(draft.before_samples / SAMPLE_RATE / evidence.frame_seconds)
    heard = [number for number in range(draft.before, len(tokens)) if _is_sound(family.piece(tokens[number]))]
    first_of = {next((n for n in heard if word.first <= n < word.end), -1) for word in family.words(tokens)}
    quiet = _quiet_frames(utterance, evidence)
    frames = align(evidence.weights[heard, begin:], quiet[begin:], [number in first_of for number in heard])
    # Frames may lie beyond the audio, for the shortest is filled up before it is encoded.
    spoken = {
        number: Span(*(min((begin + edge) * evidence.frame_seconds, utterance.audio_seconds) for edge in span))
        for number, span in zip(heard, frames, strict=True)
    }
    spans: list[Span] = []
    end = next((span.start for span in spoken.values()), 0.0)
    for number in range(len(tokens)):
        spans.append(spoken.get(number, Span(end, end)))
        end = spans[-1].end
    return spans


def _is_sound(piece: str) -> bool:
    """True for letters and digits, and for parts of a character."""
    return any(character.isalnum() or character == "\ufffd" for character in piece)


def _of_times(utterance: Utterance) -> Evidence:
    """Make evidence of the moments at which a transducer decided its tokens."""
    frames = max(1, math.ceil(utterance.audio_seconds / _FRAME_SECONDS))
    weights = np.zeros((len(utterance.tokens), frames), np.float32)
    for token, time in enumerate(utterance.times):
        weights[token, min(frames - 1, int(time / _FRAME_SECONDS))] = 1.0
    return Evidence(weights, _FRAME_SECONDS)


def _quiet_frames(utterance: Utterance, evidence: Evidence) -> NDArray[np.bool_]:
    frames, quiet = evidence.weights.shape[1], utterance.quiet
    if quiet is None or not quiet.size:
        return np.zeros(frames, np.bool_)
    middles = (np.arange(frames) + 0.5) * evidence.frame_seconds / STEP_SECONDS
    return np.asarray(quiet[np.minimum(middles.astype(int), quiet.size - 1)])
