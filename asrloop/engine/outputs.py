"""The table of the models' outputs. Responses are made from it, and every config.pbtxt is checked against it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Segment(NamedTuple):
    """A stretch of speech without a cut."""

    text: str
    start: float
    """As ``end`` in seconds from the start of the audio."""

    end: float
    speaker: int = -1
    """0, 1, ... in order of appearance, or the number of its channel; -1 where it is unknown or nobody asked."""


class Words(IntEnum):
    """Which words of a transcript are made."""

    NONE = 0
    TIMED = 1
    """Only where the family gives times."""

    ALL = 2


class TranscriptWord(NamedTuple):
    """A word of a transcript."""

    text: str
    """With the space before it, if there is one: joined, the texts of a segment's words are its text."""

    probability: float
    """That of its least probable token."""

    times: tuple[float, float] | None = None
    """Start and end of its sound in seconds where the times of words were asked for; else start of its first and of its last token,
    where the family gives those."""

    confidence: float = 0.0
    """Share of such words that are right, to be expected."""

    speaker: int = -1
    """As that of a segment."""


class Transcript(NamedTuple):
    """The transcript of one recording."""

    text: str
    tokens: Sequence[int]
    """Token ids, without those that steer the model."""

    times: Sequence[float]
    """Start of each token in seconds; empty for families without times."""

    pieces: Sequence[str]
    """The text that each token adds; empty where there are no times."""

    confidence: float = 0.0
    """Confidence in the whole transcript, 0..1; 0 when it is empty."""

    complete: bool = True
    """False when decoding was ended by a limit or by endless repetition, or the file is cut short: words may be missing."""

    segments: Sequence[Segment] = ()
    """In order. Their texts, joined (``asrloop.spacing``), are ``text``."""

    words: Sequence[TranscriptWord] = ()
    """In order of their segments; channels that speak at once overlap; empty where nobody asked for what needs them."""

    language: str = ""
    """ISO 639 code of what is spoken: as the caller named it, the model's only one, or the one that it found; else ""."""

    duration: float = 0.0
    """Seconds of audio that were decoded."""

    log_probs: Sequence[float] = ()
    """Natural logarithm of each token's probability, as the model itself thinks; empty where there are no times."""


class Output(NamedTuple):
    """One output tensor, [B, 1] or padded to the longest row [B, -1], where it may have a second dimension."""

    name: str
    dtype: type[np.generic]
    triton_type: str
    dims: tuple[int, ...]
    """Without the batch; -1 is as many as the longest row has."""

    padding: object
    values: Callable[[Transcript], Sequence[object]]
    """The row of one transcript."""

    words: Words = Words.NONE
    """Those that it needs."""


def _strings(texts: Iterable[str]) -> list[bytes]:
    return [text.encode() for text in texts]


def _timed(heard: Transcript) -> list[TranscriptWord]:
    return [word for word in heard.words if word.times]


OUTPUTS = (
    Output("TRANSCRIPTS", np.object_, "TYPE_STRING", (1,), b"", lambda heard: [heard.text.encode()]),
    Output("TOKENS", np.int32, "TYPE_INT32", (-1,), -1, lambda heard: heard.tokens),
    Output("TOKEN_TIMES", np.float32, "TYPE_FP32", (-1,), -1, lambda heard: heard.times),
    Output("TOKEN_PIECES", np.object_, "TYPE_STRING", (-1,), b"", lambda heard: _strings(heard.pieces)),
    Output("TOKEN_LOG_PROBS", np.float32, "TYPE_FP32", (-1,), -1, lambda heard: heard.log_probs),
    Output(
        "SEGMENTS", np.object_, "TYPE_STRING", (-1,), b"", lambda heard: _strings(one.text for one in heard.segments)
    ),
    Output(
        "SEGMENT_TIMES",
        np.float32,
        "TYPE_FP32",
        (-1, 2),
        -1,
        lambda heard: [[one.start, one.end] for one in heard.segments],
    ),
    Output(
        "WORDS",
        np.object_,
        "TYPE_STRING",
        (-1,),
        b"",
        lambda heard: _strings(word.text.strip() for word in _timed(heard)),
        Words.TIMED,
    ),
    Output(
        "WORD_TIMES",
        np.float32,
        "TYPE_FP32",
        (-1, 2),
        -1,
        lambda heard: [word.times for word in _timed(heard)],
        Words.TIMED,
    ),
    Output(
        "WORD_CONFIDENCES",
        np.float32,
        "TYPE_FP32",
        (-1,),
        -1,
        lambda heard: [word.confidence for word in _timed(heard)],
        Words.TIMED,
    ),
    Output(
        "WORD_SPEAKERS",
        np.int32,
        "TYPE_INT32",
        (-1,),
        -1,
        lambda heard: [word.speaker for word in _timed(heard)],
        Words.TIMED,
    ),
    Output(
        "SEGMENT_SPEAKERS", np.int32, "TYPE_INT32", (-1,), -1, lambda heard: [one.speaker for one in heard.segments]
    ),
    Output("CONFIDENCE", np.float32, "TYPE_FP32", (1,), 0.0, lambda heard: [heard.confidence]),
    Output("COMPLETE", np.bool_, "TYPE_BOOL", (1,), True, lambda heard: [heard.complete]),
    Output("LANGUAGE", np.object_, "TYPE_STRING", (1,), b"", lambda heard: [heard.language.encode()]),
    Output("DURATION", np.float32, "TYPE_FP32", (1,), 0.0, lambda heard: [heard.duration]),
)

LIVE_OUTPUTS = (
    Output(
        "WORD_TEXTS",
        np.object_,
        "TYPE_STRING",
        (-1,),
        b"",
        lambda heard: _strings(word.text for word in heard.words),
        Words.ALL,
    ),
    Output(
        "WORD_PROBABILITIES",
        np.float32,
        "TYPE_FP32",
        (-1,),
        -1,
        lambda heard: [word.probability for word in heard.words],
        Words.ALL,
    ),
)
"""Outputs of ``decoder_loop`` alone, for live audio: all words, also where there are no times."""

CANCELLED = Output("CANCELLED", np.int32, "TYPE_INT32", (1,), 0, lambda _: [])
"""The only output of a request to ``decoder_loop`` that cancels others: how many it ended."""

PROGRESS = Output("PROGRESS", np.float32, "TYPE_FP32", (2,), 0, lambda _: [])
"""Answer to a request to ``decoder_loop`` that asks how far another is: seconds done, seconds in all; 0, 0 for none."""


@lru_cache
def _wanted(names: frozenset[str] | None) -> list[Output]:
    return [output for output in (*OUTPUTS, *LIVE_OUTPUTS) if names is None or output.name in names]


@lru_cache
def words_for(names: frozenset[str] | None) -> Words:
    """Return which words the outputs with these names, None for all, need."""
    return max((output.words for output in _wanted(names)), default=Words.NONE)


def tensors_of(transcripts: Sequence[Transcript], names: frozenset[str] | None = None) -> Mapping[str, NDArray[Any]]:
    """Return the outputs with these ``names``, None for all: a row a transcript."""
    return {output.name: _padded([output.values(heard) for heard in transcripts], output) for output in _wanted(names)}


def progress_tensors(done: float, known: float, text: str) -> Mapping[str, NDArray[Any]]:
    """Return the answer to a question for progress: PROGRESS, and as TRANSCRIPTS the text that will not change any more."""
    return {
        PROGRESS.name: np.array([[done, known]], PROGRESS.dtype),
        OUTPUTS[0].name: np.array([[text.encode()]], OUTPUTS[0].dtype),
    }


def _padded(rows: Sequence[Sequence[object]], output: Output) -> NDArray[Any]:
    if len(rows) == 1:  # nearly always: it needs no padding
        return np.array(rows, output.dtype) if rows[0] else np.empty((1, 0, *output.dims[1:]), output.dtype)
    array = np.full((len(rows), max(map(len, rows)), *output.dims[1:]), output.padding, output.dtype)
    for target, row in zip(array, rows, strict=True):
        if row:
            target[: len(row)] = row
    return array
