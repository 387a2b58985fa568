"""The outputs of the models: one table from which the response and the checks of every config.pbtxt follow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Segment(NamedTuple):
    """A stretch of speech without a cut."""

    text: str
    start: float
    """As ``end`` in seconds from the start of the audio."""

    end: float


class Transcript(NamedTuple):
    """What was heard in one recording."""

    text: str
    tokens: Sequence[int]
    """Token ids, without those that steer the model."""

    times: Sequence[float]
    """Start of each token in seconds; empty for families without times."""

    pieces: Sequence[str]
    """What each token adds to the text; empty where there are no times."""

    confidence: float = 0.0
    """How far to trust it, 0..1; 0 for an empty one."""

    complete: bool = True
    """False when decoding was ended by a limit or by endless repetition, so that words may be missing."""

    segments: Sequence[Segment] = ()
    """In order. Their texts, joined by a space, are ``text``."""

    word_probabilities: Sequence[float] = ()
    """For each word the probability of its least probable token."""


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


OUTPUTS = (
    Output("TRANSCRIPTS", np.object_, "TYPE_STRING", (1,), b"", lambda heard: [heard.text.encode()]),
    Output("TOKENS", np.int32, "TYPE_INT32", (-1,), -1, lambda heard: heard.tokens),
    Output("TOKEN_TIMES", np.float32, "TYPE_FP32", (-1,), -1, lambda heard: heard.times),
    Output(
        "TOKEN_PIECES", np.object_, "TYPE_STRING", (-1,), b"", lambda heard: [piece.encode() for piece in heard.pieces]
    ),
    Output(
        "SEGMENTS", np.object_, "TYPE_STRING", (-1,), b"", lambda heard: [one.text.encode() for one in heard.segments]
    ),
    Output(
        "SEGMENT_TIMES",
        np.float32,
        "TYPE_FP32",
        (-1, 2),
        -1,
        lambda heard: [[one.start, one.end] for one in heard.segments],
    ),
    Output("CONFIDENCE", np.float32, "TYPE_FP32", (1,), 0.0, lambda heard: [heard.confidence]),
    Output("COMPLETE", np.bool_, "TYPE_BOOL", (1,), True, lambda heard: [heard.complete]),
)


WORD_PROBABILITIES = Output(
    "WORD_PROBABILITIES", np.float32, "TYPE_FP32", (-1,), -1, lambda heard: heard.word_probabilities
)
"""An output of ``decoder_loop`` alone, for live audio."""

CANCELLED = Output("CANCELLED", np.int32, "TYPE_INT32", (1,), 0, lambda _: [])
"""The only output of a request to ``decoder_loop`` that cancels others: how many it ended."""

PROGRESS = Output("PROGRESS", np.float32, "TYPE_FP32", (2,), 0, lambda _: [])
"""Of a request to ``decoder_loop`` that asks how far another is: seconds done, seconds in all; 0, 0 for none."""


def tensors_of(transcripts: Sequence[Transcript]) -> Mapping[str, NDArray[Any]]:
    """Every output by name, a row a transcript."""
    return {
        output.name: _padded([output.values(heard) for heard in transcripts], output)
        for output in (*OUTPUTS, WORD_PROBABILITIES)
    }


def progress_tensors(done: float, known: float, text: str) -> Mapping[str, NDArray[Any]]:
    """The answer to who asks how far a request is: PROGRESS, and as TRANSCRIPTS what will not change any more."""
    return {
        PROGRESS.name: np.array([[done, known]], PROGRESS.dtype),
        OUTPUTS[0].name: np.array([[text.encode()]], OUTPUTS[0].dtype),
    }


def _padded(rows: Sequence[Sequence[object]], output: Output) -> NDArray[Any]:
    array = np.full((len(rows), max(map(len, rows)), *output.dims[1:]), output.padding, output.dtype)
    for target, row in zip(array, rows, strict=True):
        if row:
            target[: len(row)] = row
    return array
