"""Chunks of live audio: the forms they may have, and their requests."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from asrloop_client.audio import check_finite, mono_float
from asrloop_client.errors import InvalidAudio
from asrloop_client.settings import Parameter
from asrloop_client.wire import new_request

Chunk = npt.NDArray[Any] | bytes
"""Mono: float in -1..1 or int16 [N], or bytes of 16-bit PCM."""
END_SEGMENT: npt.NDArray[Any] = np.empty(0, np.int16)
"""Sent as a chunk, this very object ends the open segment there: its final text comes without waiting for a pause."""
Source = Iterable[Chunk]
AnySource = Source | AsyncIterable[Chunk]


def as_chunk(given: Any) -> npt.NDArray[Any]:
    """Return a chunk [N]: int16 as it is, also from bytes of 16-bit PCM, and all else as float32; END_SEGMENT as it is.

    Raises InvalidAudio.
    """
    if given is END_SEGMENT:
        return given
    if isinstance(given, bytes | bytearray | memoryview):
        if len(given) % 2:
            raise InvalidAudio(f"a chunk has {len(given)} bytes: give 16-bit PCM, two bytes a sample")
        return np.frombuffer(bytes(given), "<i2")
    # Copies: a recorder may fill the same array again before the chunk is sent.
    if getattr(given, "dtype", None) == np.int16 and given.ndim == 1:
        return np.array(given, np.int16)
    samples = np.array(mono_float(given))
    # The server's answer would come too late to say which chunk it was, and end the stream.
    check_finite(samples)
    return samples


def pieces_of(chunk: npt.NDArray[Any], most: int) -> list[npt.NDArray[Any]]:
    """Cut a chunk [N] into pieces of at most `most` samples, without copying; one that is short enough stays as it is."""
    if chunk.size <= most:
        return [chunk]
    return [chunk[at : at + most] for at in range(0, chunk.size, most)]


def chunk_request(
    model: str,
    sequence: str,
    samples: Any,
    *,
    start: Mapping[str, Parameter] | None = None,
    end: bool = False,
    name: str = "",
) -> Any:
    """Return the ModelInferRequest of a chunk float32 or int16 [N]: START with parameters of its own, END, or between.

    That of END_SEGMENT has no samples, and the parameter that ends the open segment.
    START's id is that of the sequence, another's is `name`. Raises InvalidAudio.
    """
    own: dict[str, Parameter] = {"sequence_id": sequence, "sequence_start": start is not None, "sequence_end": end}
    if samples is END_SEGMENT:
        own["end_segment"] = True
    parameters = {**(start or {}), **own, "triton_enable_empty_final_response": True}
    request = new_request(model, name if start is None else sequence, parameters)
    name, datatype = ("PCM", "INT16") if samples.dtype == np.int16 else ("WAV", "FP32")
    request.inputs.add(name=name, datatype=datatype, shape=[samples.size])
    request.raw_input_contents.append(samples.tobytes())
    return request
